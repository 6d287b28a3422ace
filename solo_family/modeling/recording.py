"""One CUDA graph: a function of a batch, recorded once and replayed on others of its size."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .layers.remembered import constants_of_a_graph

# Of all models: PyTorch captures one graph at a time.
_capturing = threading.Lock()


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Apply a function to every tensor in tuples, lists, dicts and dataclasses."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(function, part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [map_tensors(function, part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)]
        return replace(
            value, **{name: map_tensors(function, getattr(value, name)) for name in names}
        )
    return value


class Recording:
    """A graph with the tensors that it reads and writes.

    Attributes:
        given: what the function's argument is copied to.
        outputs: what the function returned; every replay of any recording of the same recorder
            overwrites them.
        constants: what it reads besides; see `constants_of_a_graph`.
    """

    def __init__(
        self, graph: torch.cuda.CUDAGraph, given: Tensor, outputs: Any, constants: Any = None
    ) -> None:
        self.graph = graph
        self.given = given
        self.outputs = outputs
        self.constants = constants

    def replay(self, batch: Tensor) -> Any:
        """Queues the function of a batch like the recorded one, and returns `outputs`."""
        self.given.copy_(batch)
        self.graph.replay()
        return self.outputs


class Recorder:
    """Records on one device at a time; all recordings share one pool of memory.

    What a recording leaves behind is free for the next one: they are replayed one after the other,
    each time from a new input, and outputs are used up before the next replay; see `in_turn`. So 40
    graphs take little more memory than the largest.
    """

    def __init__(self) -> None:
        self._device: torch.device | None = None
        self._stream: Any = None
        self._pool: Any = None
        self._done: Any = None
        self._graph: Any = None

    def forget(self) -> None:
        """Take other memory from now on: that of graphs which are all gone can't be had again."""
        self._device = None

    def suits(self, batch: Tensor) -> bool:
        """Whether a batch is on a device that has graphs, of which none is being recorded."""
        return batch.device.type == "cuda" and not torch.cuda.is_current_stream_capturing()

    def record(self, function: Callable[[Tensor], Any], batch: Tensor) -> Recording:
        """Record a function, which must not wait for the device; it has run eagerly before.

        Args:
            function: of tensors like `batch`; returns tensors in tuples, lists, dicts and
                dataclasses.
            batch: an input; of autocast, what is on now is recorded.

        Raises:
            RuntimeError: the function can't be recorded.
        """
        device = batch.device
        self._prepare(device)
        current = torch.cuda.current_stream(device)
        with torch.cuda.device(device), torch.inference_mode(False), torch.no_grad():
            self._stream.wait_stream(current)
            # A capture that fails leaves the stream that it is on, but this one goes back.
            stream, constants = torch.cuda.stream(self._stream), constants_of_a_graph()
            with stream, _uncached(device), constants as kept:
                # Libraries allocate what they need for a stream outside the graph's memory.
                function(batch)
                batch.record_stream(self._stream)
                try:
                    recording = self._capture(function, batch)
                    recording.constants = kept
                except Exception:
                    self._recover(device)
                    raise
            current.wait_stream(self._stream)
        return recording

    def _capture(self, function: Callable[[Tensor], Any], batch: Tensor) -> Recording:
        # Kept if the capture fails: PyTorch goes on asking such a graph about memory.
        self._graph = graph = torch.cuda.CUDAGraph()
        mode = "thread_local"
        with _capturing, torch.cuda.graph(graph, self._pool, self._stream, mode):
            given = torch.empty_like(batch)
            outputs = function(given)
        self._graph = None
        return Recording(graph, _borrowed(given), map_tensors(_borrowed, outputs))

    def _recover(self, device: torch.device) -> None:
        """End what a failed capture may leave begun.

        Memory would be kept back from then on, and random numbers refused.
        """
        with suppress(Exception):
            torch._C._cuda_endAllocateToPool(device.index, self._pool)
        with _capturing, suppress(Exception), torch.cuda.stream(self._stream):
            torch.cuda.synchronize(device)
            with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=self._stream):
                torch.zeros(1, device=device)

    @contextmanager
    def in_turn(self, batch: Tensor) -> Iterator[None]:
        """Within it, the device does not begin before the last one's work is done."""
        current = torch.cuda.current_stream(batch.device)
        current.wait_event(self._done)
        try:
            yield
        finally:
            self._done.record(current)

    def _prepare(self, device: torch.device) -> None:
        if device == self._device:
            return
        self._device = device
        with torch.cuda.device(device):
            self._stream = torch.cuda.Stream(device)
            self._pool = torch.cuda.graph_pool_handle()
            self._done = torch.cuda.Event()


def _uncached(device: torch.device) -> torch.autocast:
    """Autocast as it is, but for casts of weights, which are done in the graph, not before it."""
    return torch.autocast(
        device.type,
        dtype=torch.get_autocast_dtype(device.type),
        enabled=torch.is_autocast_enabled(device.type),
        cache_enabled=False,
    )


class _Memory:
    """A tensor's memory as another library's, so that nobody thinks of it as in use."""

    def __init__(self, tensor: Tensor) -> None:
        reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
        self.__cuda_array_interface__ = {
            "data": (tensor.data_ptr(), False),
            "shape": ((reach + 1) * tensor.element_size(),),
            "typestr": "|u1",
            "strides": None,
            "version": 3,
        }


def _borrowed(tensor: Tensor) -> Tensor:
    """Return a tensor of the same memory that doesn't keep it from being given out again."""
    if not tensor.numel():
        return tensor
    tensor = tensor.detach()
    its_bytes = torch.as_tensor(_Memory(tensor), device=tensor.device)
    if its_bytes.data_ptr() != tensor.data_ptr():
        return tensor
    return its_bytes.view(tensor.dtype).as_strided(tensor.shape, tensor.stride())
