"""Cache results: of a few numbers, such as a map's coordinates, or of unchanged tensors."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

# Per function: a server sees pictures of some dozens of sizes.
_KEPT = 64
_T = TypeVar("_T")
_NUMBERS = (int, float, bool, str, tuple, torch.dtype)


class _OfGraph(threading.local):
    """The results that a thread keeps for a CUDA graph, by function and arguments, or None."""

    tensors: dict[Any, Tensor] | None = None


_of_graph = _OfGraph()


@contextmanager
def constants_of_a_graph() -> Iterator[dict[Any, Tensor]]:
    """Surround the rehearsal and the capture of a function as a CUDA graph, on one stream.

    Constants that the rehearsal computes are available to the capture, in which a copy from the
    host would fail.

    Yields:
        The tensors that the graph reads, which must be kept as long as the graph.
    """
    before, _of_graph.tensors = _of_graph.tensors, {}
    try:
        yield _of_graph.tensors
    finally:
        _of_graph.tensors = before


def remembered(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make a function cache its latest results, which must not be written to.

    On a GPU computing one takes a handful of launches, or a copy that the host waits for.

    Args:
        make: takes numbers (or tuples of them, strings, dtypes) and `device`.

    Returns:
        A function of a tensor, on whose device the result is, and of the same numbers.
    """

    # A stream must not read what another one has not finished.
    @lru_cache(maxsize=_KEPT)
    def keep(stream: int, device: torch.device, *numbers: Any) -> Tensor:
        """Compute the result once for each stream."""
        with torch.inference_mode(False), torch.no_grad():
            return make(*numbers, device=device)

    @wraps(make)
    def remembering(like: Tensor, *numbers: Any) -> Tensor:
        """Return the cached result if it can be cached."""
        if not _may_remember(like, numbers):
            return make(*numbers, device=like.device)
        kept, key = _of_graph.tensors, (make, like.device, numbers)
        if kept is not None and key in kept:
            return kept[key]
        if _is_captured(like):
            return make(*numbers, device=like.device)
        on_gpu = like.device.type == "cuda"
        stream = torch.cuda.current_stream(like.device).cuda_stream if on_gpu else 0
        made = keep(stream, like.device, *numbers)
        if kept is not None:
            kept[key] = made
        return made

    return remembering


def _may_remember(like: Tensor, numbers: tuple[Any, ...]) -> bool:
    """Return whether a result may be cached; graphs make their own constants."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return type(like) is Tensor and all(type(number) in _NUMBERS for number in numbers)


def _is_captured(like: Tensor) -> bool:
    """Return whether a CUDA graph is captured: what it reads must live as long as the graph."""
    return like.device.type == "cuda" and torch.cuda.is_current_stream_capturing()


@remembered
def constant(values: tuple[Any, ...], dtype: torch.dtype, *, device: torch.device) -> Tensor:
    """Return a tensor with the given values: `constant(like, values, dtype)`."""
    return torch.tensor(values, dtype=dtype, device=device)


class Kept:
    """The latest results of some functions, without gradient, each by its input tensors.

    A change in place is recognised by the tensor's version, and another tensor by its address.
    Some changes change no version: writing through `tensor.data`, the step of a fused optimizer,
    and a batch norm's update of its statistics. For these there is `forget`.
    """

    def __init__(self) -> None:
        # The tensors are kept alive with their result, so that no other tensor gets their address.
        self._results: dict[Callable[..., Any], tuple[list[Any], list[Any], Any]] = {}

    def get(self, make: Callable[..., _T], *inputs: Any) -> _T:
        """Return `make(*inputs)`, which must not be written to.

        Args:
            make: a function of tensors and of values that can be compared.
            inputs: its arguments.
        """
        if torch.compiler.is_compiling():
            return make(*inputs)
        state = [_state(value) for value in inputs]
        known = self._results.get(make)
        if known is None or known[0] != state:
            with torch.inference_mode(False), torch.no_grad():
                made = make(*inputs)
            alive = [value.detach() for value in inputs if isinstance(value, Tensor)]
            known = self._results[make] = (state, alive, made)
        return known[2]

    def forget(self, *functions: Callable[..., Any]) -> None:
        """Drop the results of some functions."""
        for function in functions:
            self._results.pop(function, None)


def _state(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.data_ptr(), value._version
    return value
