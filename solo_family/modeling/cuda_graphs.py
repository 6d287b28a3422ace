"""Replay the first part of inference as a CUDA graph, wherever that gives the same results.

An image needs some hundred kernel launches, which take the host longer than the GPU needs to
compute them. A graph needs one launch.
"""

import math
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..ops.gpu_memory import lacks_memory
from .graph_conditions import any_mode, kind_of, state_of
from .owned import owned
from .recording import Recorder

# The maximum number of graphs of one model. At a short edge of 800 pixels, COCO's images have 36
# different sizes.
MAX_GRAPHS = 40
# From then on at most one in so many batches is recorded, which takes the time of a few batches:
# otherwise images of more sizes than there are graphs would be slower with graphs than without.
_REPLACE_AFTER = 16
# The number of kinds of batches, the latest ones, of which is known that they came once.
_MAX_SEEN = 1000
# Where memory is short, batches of more than so many times the largest one's values get no graph.
_LESS = 0.75

Result = TypeVar("Result")


class _Recording(Protocol):
    def replay(self, batch: Tensor) -> Any: ...


class CudaGraphs:
    """Hold the graphs of one model: one per kind of batch, recorded when the kind comes again.

    Two batches are of the same kind if their size, their dtype and all settings that a graph
    contains are equal. The model runs without graphs on a CPU, with gradients, in training, with
    hooks, inside compiled code, with another allocator than PyTorch's own, and while another thread
    uses the graphs.

    Graphs take no memory that anything else needs: where they take more than they leave free, or
    memory runs out, all are dropped, and the largest batches get none from then on. These gain the
    least from them.

    A copy, by `deepcopy` or `pickle`, starts without graphs.

    Args:
        enabled: whether to use graphs at all.
        recorder: records the graphs; see `Recorder`.
    """

    def __init__(self, enabled: bool = False, recorder: Any = None) -> None:
        self.enabled = enabled
        self._recorder = recorder or Recorder()
        self._lock = threading.Lock()
        # The number of values of the largest batch that may be recorded.
        self._largest_allowed = math.inf
        self._said = False
        # Batches so far, and when the last graph made room for another.
        self._batches, self._replaced = 0, -_REPLACE_AFTER
        self.forget()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.enabled,)

    def forget(self) -> None:
        """Drop all graphs, because the weights have moved or changed."""
        self._recorder.forget()
        self._trusted = False
        self._state: tuple[Any, ...] | None = None
        # Memory that the graphs read. It must stay allocated even if the model drops it.
        self._kept: list[Tensor] = []
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._recordings: OrderedDict[Hashable, _Recording] = OrderedDict()
        # The number of values of the largest recorded batch.
        self._largest = 0

    def __len__(self) -> int:
        return len(self._recordings)

    def run(
        self,
        model: nn.Module,
        first: Callable[[Tensor], Any],
        finish: Callable[[Any], Result],
        batch: Tensor,
        settings: Hashable = (),
    ) -> Result:
        """Return `finish(first(batch))`; the first part may be replayed from a graph.

        Args:
            model: the model whose weights the first part reads.
            first: must not make the host wait. The sizes of its outputs must follow from the size
                of the batch; the outputs are in tuples, lists, dicts and dataclasses.
            finish: the rest of inference.
            batch: [B, C, H, W].
            settings: everything else that the first part depends on, apart from the weights and
                torch's own settings.
        """
        try:
            return self._run(model, first, finish, batch, settings)
        except RuntimeError as error:
            if not lacks_memory(error) or not self._gave_memory():
                raise
        # Here, because the error's traceback held tensors.
        return finish(first(batch))

    def _run(
        self,
        model: nn.Module,
        first: Callable[[Tensor], Any],
        finish: Callable[[Any], Result],
        batch: Tensor,
        settings: Hashable,
    ) -> Result:
        if not self._may_run(batch) or not self._lock.acquire(blocking=False):
            return finish(first(batch))
        try:
            self._batches += 1
            key = (*kind_of(batch), settings)
            # The check takes the host some time. If it succeeded the last time, it is done after
            # the replay is queued, while the GPU is busy; otherwise before.
            if self._trusted or self._check(model):
                recording = self._recordings.get(key)
                if recording is None and self._comes_again(key, model, batch):
                    recording = self._record(key, first, batch)
                if recording is not None:
                    with self._recorder.in_turn(batch):
                        outputs = recording.replay(batch)
                        if self._check(model) and self._recordings.get(key) is recording:
                            self._recordings.move_to_end(key)
                            return owned(finish(outputs), outputs)
        finally:
            self._lock.release()
        return finish(first(batch))

    def _may_run(self, batch: Tensor) -> bool:
        return (
            self.enabled
            and not torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()
            and type(batch) is Tensor
            and not any_mode()
            and self._recorder.suits(batch)
        )

    def _check(self, model: nn.Module) -> bool:
        """Return whether graphs compute what the model would; drop them if the weights moved."""
        state = state_of(model)
        if state is not None and state != self._state:
            self.forget()
            self._state = state
            self._kept = [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
        self._trusted = state is not None
        return self._trusted

    def _comes_again(self, key: Hashable, model: nn.Module, batch: Tensor) -> bool:
        """Return whether to record this kind of batch now; remember that it came."""
        if batch.numel() > self._largest_allowed:
            return False
        full = len(self._recordings) >= MAX_GRAPHS
        waits = full and self._batches - self._replaced < _REPLACE_AFTER
        # `_check` may drop everything, so membership is tested once more after it.
        if not waits and key in self._seen and self._check(model) and key in self._seen:
            del self._seen[key]
            return True
        self._seen[key] = None
        if len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)
        return False

    def _record(
        self, key: Hashable, first: Callable[[Tensor], Any], batch: Tensor
    ) -> _Recording | None:
        """Return the graph for this kind of batch; None if it can't be recorded, or kept."""
        if len(self._recordings) >= MAX_GRAPHS:
            self._recordings.popitem(last=False)
            self._replaced = self._batches
        self._largest = max(self._largest, batch.numel())
        try:
            self._recordings[key] = self._recorder.record(first, batch)
        except Exception as error:  # a driver, a library or a user's own module may raise anything
            if lacks_memory(error):
                self._make_room()
                self._say_memory()
            else:
                self._give_up(error, batch)
            return None
        if not self._recorder.leaves_enough():
            self._make_room()
            return None
        return self._recordings[key]

    def _give_up(self, error: Exception, batch: Tensor) -> None:
        self.enabled = False
        self.forget()
        what = " ".join(str(error).split())[:300]
        warnings.warn(
            "Inference continues without CUDA graphs, more slowly: recording one for a batch "
            f"of {tuple(batch.shape)} failed with {type(error).__name__}: {what}. "
            "MODEL.INFERENCE.CUDA_GRAPH False goes without them from the start.",
            RuntimeWarning,
            stacklevel=2,
        )

    def _make_room(self) -> None:
        """Drop all graphs, and record none of the largest batches any more."""
        self._largest_allowed = _LESS * self._largest
        self.forget()

    def _gave_memory(self) -> bool:
        """Return whether there were graphs, which are dropped, after memory has run out."""
        # Another thread may have the lock for the time of a batch.
        with self._lock:
            if not self._recordings:
                return False
            self._make_room()
        self._say_memory()
        return True

    def _say_memory(self) -> None:
        if not self._said:
            self._said = True
            warnings.warn(
                "Memory of the GPU has run out. Inference continues without the CUDA graphs, which "
                "took some of it, of the largest batches: the same results, more slowly. "
                "MODEL.INFERENCE.CUDA_GRAPH False goes without any graph.",
                RuntimeWarning,
                stacklevel=2,
            )
