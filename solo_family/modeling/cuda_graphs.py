"""Replay the first part of inference as a CUDA graph, wherever that gives the same results.

An image needs some hundred kernel launches, which take the host longer than the GPU needs to
compute them. A graph needs one launch.
"""

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from ..ops import gpu_kernels
from ..ops.float32_precision import tf32_allowed
from .recording import Recorder, map_tensors

# The maximum number of graphs of one model. At a short edge of 800 pixels, COCO's images have 36
# different sizes.
MAX_GRAPHS = 40
# The number of kinds of batches, the latest ones, of which is known that they came once.
_MAX_SEEN = 1000

Result = TypeVar("Result")


class _Recording(Protocol):
    def replay(self, batch: Tensor) -> Any: ...


class CudaGraphs:
    """Hold the graphs of one model: one per kind of batch, recorded when the kind comes again.

    Two batches are of the same kind if their size, their dtype and all settings that a graph
    contains are equal. The model runs without graphs on a CPU, with gradients, in training, with
    hooks, inside compiled code, and while another thread uses the graphs.

    A copy, by `deepcopy` or `pickle`, starts without graphs.

    Args:
        enabled: whether to use graphs at all.
        recorder: records the graphs; see `Recorder`.
    """

    def __init__(self, enabled: bool = False, recorder: Any = None) -> None:
        self.enabled = enabled
        self._recorder = recorder or Recorder()
        self._lock = threading.Lock()
        self.forget()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.enabled,)

    def forget(self) -> None:
        """Drop all graphs, because the weights have moved or changed."""
        self._recorder.forget()
        self._trusted = False
        self._weights: tuple[int, ...] | None = None
        # Memory that the graphs read. It must stay allocated even if the model drops it.
        self._kept: list[Tensor] = []
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._recordings: OrderedDict[Hashable, _Recording] = OrderedDict()

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
        if not self._may_run(batch) or not self._lock.acquire(blocking=False):
            return finish(first(batch))
        try:
            key = (*_kind_of(batch), settings)
            # The check takes the host some time. If it succeeded the last time, it is done after
            # the replay is queued, while the GPU is busy; otherwise before.
            if self._trusted or self._check(model):
                recording = self._recordings.get(key)
                if recording is None and self._comes_again(key, model):
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
            and self._recorder.suits(batch)
        )

    def _check(self, model: nn.Module) -> bool:
        """Return whether graphs compute what the model would; drop them if the weights moved."""
        weights = _weights_of(model)
        if weights is not None and weights != self._weights:
            self.forget()
            self._weights = weights
            self._kept = [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
        self._trusted = weights is not None
        return self._trusted

    def _comes_again(self, key: Hashable, model: nn.Module) -> bool:
        """Return whether to record this kind of batch now; remember that it came."""
        # `_check` may have dropped everything, so membership is tested once more after it.
        if key in self._seen and self._check(model) and key in self._seen:
            del self._seen[key]
            return True
        self._seen[key] = None
        if len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)
        return False

    def _record(
        self, key: Hashable, first: Callable[[Tensor], Any], batch: Tensor
    ) -> _Recording | None:
        """Return the graph for this kind of batch; None, and no more graphs, if recording fails."""
        if len(self._recordings) >= MAX_GRAPHS:
            self._recordings.popitem(last=False)
        try:
            self._recordings[key] = self._recorder.record(first, batch)
        except Exception as error:  # a driver, a library or a user's own module may raise anything
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
            return None
        return self._recordings[key]


def _weights_of(model: nn.Module) -> tuple[int, ...] | None:
    """Return the addresses of all parameters and buffers, in the order of a walk over the modules.

    Return None if a graph would leave something out: hooks, a compiled module, a module in training
    mode. The walk takes about a microsecond per module, on every call.
    """
    if _any_global_hook():
        return None
    places: list[int] = []
    modules = [model]
    while modules:
        state = modules.pop().__dict__
        if (
            # A scripted module does not have the attribute here; nothing is known about it.
            state.get("training", True)
            or state["_forward_hooks"]
            or state["_forward_pre_hooks"]
            or "forward" in state
            or state.get("_compiled_call_impl") is not None
            # The wrapper that torch.compile returns.
            or "_orig_mod" in state["_modules"]
        ):
            return None
        for tensors in (state["_parameters"], state["_buffers"]):
            places += [tensor.data_ptr() for tensor in tensors.values() if tensor is not None]
        modules += [part for part in state["_modules"].values() if part is not None]
    return tuple(places)


def _any_global_hook() -> bool:
    hooks = nn.modules.module
    return bool(hooks._global_forward_hooks or hooks._global_forward_pre_hooks)


def _kind_of(batch: Tensor) -> tuple[Hashable, ...]:
    """Return everything that a graph contains of the batch, of torch's settings and of our own."""
    device = batch.device.type
    autocast = torch.is_autocast_enabled(device)
    return (
        *(batch.device, tuple(batch.shape), batch.stride(), batch.dtype),
        *(autocast, torch.get_autocast_dtype(device) if autocast else None),
        os.environ.get(gpu_kernels.VARIABLE),
        *(tf32_allowed(), _tf32_convolutions()),
        torch.are_deterministic_algorithms_enabled(),
        *(torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic),
        torch.backends.cudnn.benchmark,
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
    )


def _tf32_convolutions() -> Hashable:
    newer = getattr(torch.backends.cudnn, "conv", None)
    # Older versions of torch have only `allow_tf32`; in newer ones it can no longer be read.
    return torch.backends.cudnn.allow_tf32 if newer is None else newer.fp32_precision


def owned(results: Any, outputs: Any) -> Any:
    """Return results, of which those that lie in the memory of `outputs` are copied.

    A graph's outputs are overwritten by its next replay.
    """
    borrowed: set[int] = set()

    def note(tensor: Tensor) -> Tensor:
        borrowed.add(tensor.untyped_storage().data_ptr())
        return tensor

    def own(tensor: Tensor) -> Tensor:
        return tensor.clone() if tensor.untyped_storage().data_ptr() in borrowed else tensor

    def own_all(value: Any) -> Any:
        if isinstance(value, Instances):
            for name, field in value.get_fields().items():
                value.set(
                    name, Boxes(own(field.tensor)) if type(field) is Boxes else own_all(field)
                )
            return value
        if isinstance(value, dict):
            return {key: own_all(part) for key, part in value.items()}
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            return type(value)(own_all(part) for part in value)
        return map_tensors(own, value)

    map_tensors(note, outputs)
    borrowed.discard(0)
    return own_all(results)
