"""Record a function of a batch as a CUDA graph, and replay it on other batches of the same size."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .layers.remembered import constants_of_a_graph

# One lock for all models, because PyTorch captures one graph at a time.
_capturing = threading.Lock()
# Whose calls may not be what a capture forbids: otherwise those of all threads, which would fail.
_MODE = "thread_local"


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
    """Hold a graph with the tensors that it reads and writes.

    Args:
        graph: the recorded graph.
        given: the tensor that the function's argument is copied to.
        outputs: the outputs of the function. Every replay of any recording of the same recorder
            overwrites them.
        constants: other tensors that the graph reads; see `constants_of_a_graph`.
    """

    def __init__(
        self, graph: torch.cuda.CUDAGraph, given: Tensor, outputs: Any, constants: Any = None
    ) -> None:
        self.graph = graph
        self.given = given
        self.outputs = outputs
        self.constants = constants

    def replay(self, batch: Tensor) -> Any:
        """Queue the function on a batch like the recorded one, and return `outputs`."""
        self.given.copy_(batch)
        self.graph.replay()
        return self.outputs


class Recorder:
    """Record graphs on one device at a time; all recordings share one pool of memory.

    Recordings reuse the same memory, so that 40 graphs take little more of it than the largest.
    That is safe because they are replayed one after another, each from a new input, and because the
    outputs of one replay are no longer needed when the next one begins; see `in_turn`.
    """

    def __init__(self) -> None:
        self._device: torch.device | None = None
        self._stream: Any = None
        self._pool: Any = None
        self._done: Any = None
        self._graph: Any = None
        # Bytes of the pool.
        self._held = 0

    def forget(self) -> None:
        """Use new memory from now on: the pool of graphs that are all gone can't be reused."""
        self._device = None

    def leaves_enough(self) -> bool:
        """Return whether the graphs take at most as much of the GPU's memory as they leave free."""
        free, _ = torch.cuda.mem_get_info(self._device)
        reserved = torch.cuda.memory_reserved(self._device)
        # PyTorch keeps memory that it can give to others; that of the graphs is not among it.
        kept = reserved - torch.cuda.memory_allocated(self._device) - self._held
        return self._held <= free + max(0, kept)

    def suits(self, batch: Tensor) -> bool:
        """Return whether the batch is on a GPU that is not recording a graph at the moment.

        Other allocators than PyTorch's own (`PYTORCH_CUDA_ALLOC_CONF=backend:cudaMallocAsync`) have
        no memory of a graph that stays after its tensors are gone, as `_borrowed` needs it.
        """
        if batch.device.type != "cuda" or torch.cuda.get_allocator_backend() != "native":
            return False
        return not torch.cuda.is_current_stream_capturing()

    def record(self, function: Callable[[Tensor], Any], batch: Tensor) -> Recording:
        """Record a function that must not wait for the device and has run eagerly before.

        Args:
            function: takes a tensor like `batch`, and returns tensors in tuples, lists, dicts and
                dataclasses.
            batch: an input. The recording uses the autocast settings of this call.

        Raises:
            RuntimeError: the function can't be recorded.
        """
        device = batch.device
        self._prepare(device)
        current = torch.cuda.current_stream(device)
        with torch.cuda.device(device), torch.inference_mode(False), torch.no_grad():
            self._stream.wait_stream(current)
            # A failed capture may change the current stream; this context restores it.
            stream, constants = torch.cuda.stream(self._stream), constants_of_a_graph()
            with stream, _uncached(device), constants as kept:
                # The first run on a stream: libraries allocate their workspaces outside the graph.
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
        # If the capture fails, the graph must stay alive: PyTorch still asks it about memory.
        self._graph = graph = torch.cuda.CUDAGraph()
        with _capturing, torch.cuda.graph(graph, self._pool, self._stream, _MODE):
            # Meanwhile all memory that this thread reserves is the pool's.
            before = torch.cuda.memory_reserved(batch.device)
            given = torch.empty_like(batch)
            outputs = function(given)
            self._held += torch.cuda.memory_reserved(batch.device) - before
        self._graph = None
        return Recording(graph, _borrowed(given), map_tensors(_borrowed, outputs))

    def _recover(self, device: torch.device) -> None:
        """End the states that a failed capture may leave open.

        Otherwise PyTorch would still allocate from the graph's pool and refuse random numbers.
        """
        # Its name until torch 2.7, and from 2.8 on.
        for name in ("_cuda_endAllocateCurrentStreamToPool", "_cuda_endAllocateToPool"):
            with suppress(Exception):
                getattr(torch._C, name)(device.index, self._pool)
        graph = partial(torch.cuda.graph, capture_error_mode=_MODE)
        with _capturing, suppress(Exception), torch.cuda.stream(self._stream):
            torch.cuda.synchronize(device)
            with graph(torch.cuda.CUDAGraph(), stream=self._stream):
                torch.zeros(1, device=device)

    @contextmanager
    def in_turn(self, batch: Tensor) -> Iterator[None]:
        """Let the device begin the work inside only after the work of the previous use is done."""
        current = torch.cuda.current_stream(batch.device)
        current.wait_event(self._done)
        try:
            yield
        finally:
            self._done.record(current)

    def _prepare(self, device: torch.device) -> None:
        if device == self._device:
            return
        self._device, self._held = device, 0
        with torch.cuda.device(device):
            self._stream = torch.cuda.Stream(device)
            self._pool = torch.cuda.graph_pool_handle()
            self._done = torch.cuda.Event()


def _uncached(device: torch.device) -> torch.autocast:
    """Return the current autocast without its cache, so that the graph itself casts the weights."""
    return torch.autocast(
        device.type,
        dtype=torch.get_autocast_dtype(device.type),
        enabled=torch.is_autocast_enabled(device.type),
        cache_enabled=False,
    )


class _Memory:
    """Present a tensor's memory as another library's, so that PyTorch does not count it as used."""

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
    """Return a tensor with the same memory that does not prevent PyTorch from reusing it."""
    if not tensor.numel():
        return tensor
    tensor = tensor.detach()
    its_bytes = torch.as_tensor(_Memory(tensor), device=tensor.device)
    if its_bytes.data_ptr() != tensor.data_ptr():
        return tensor
    return its_bytes.view(tensor.dtype).as_strided(tensor.shape, tensor.stride())
