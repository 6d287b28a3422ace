"""Tensors that follow from a few numbers alone, such as a map's coordinates, are made once."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor

# Per function: a server sees pictures of some dozens of sizes.
_KEPT = 64
_NUMBERS = (int, float, bool, str, tuple, torch.dtype)


def remembered(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Makes a function keep its latest results, which must not be written to.

    On a GPU each is a handful of launches, or a copy that the host waits for.

    Args:
        make: takes numbers (or tuples of them, strings, dtypes) and `device`.

    Returns:
        A function of a tensor, on whose device the result is, and of the same numbers.
    """

    # A stream may not see what another one has not finished.
    @lru_cache(maxsize=_KEPT)
    def keep(stream: int, device: torch.device, *numbers: Any) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():
            return make(*numbers, device=device)

    @wraps(make)
    def remembering(like: Tensor, *numbers: Any) -> Tensor:
        if not _may_remember(like, numbers):
            return make(*numbers, device=like.device)
        on_gpu = like.device.type == "cuda"
        stream = torch.cuda.current_stream(like.device).cuda_stream if on_gpu else 0
        return keep(stream, like.device, *numbers)

    return remembering


def _may_remember(like: Tensor, numbers: tuple[Any, ...]) -> bool:
    """Whether numbers are numbers, and tensors stay: graphs must make their constants."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if type(like) is not Tensor or any(type(number) not in _NUMBERS for number in numbers):
        return False
    # What a CUDA graph reads must live as long as the graph.
    return like.device.type != "cuda" or not torch.cuda.is_current_stream_capturing()


@remembered
def constant(values: tuple[Any, ...], dtype: torch.dtype, *, device: torch.device) -> Tensor:
    """Returns a tensor of some values: `constant(like, values, dtype)`."""
    return torch.tensor(values, dtype=dtype, device=device)
