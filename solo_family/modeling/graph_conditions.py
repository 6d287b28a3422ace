"""What a CUDA graph of a model contains, beside the values of its weights, and what forbids one."""

import os
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from ..ops import gpu_kernels
from ..ops.float32_precision import tf32_allowed


def state_of(model: nn.Module) -> tuple[Any, ...] | None:
    """Return the modules, and the addresses of all parameters and buffers, in an order that stays.

    Return None if a graph would leave something out: hooks, a compiled module, a module in training
    mode, one of the replicas of `nn.DataParallel`, whose weights are new in every batch. The walk
    takes about a microsecond per module, on every call.
    """
    if _any_global_hook():
        return None
    # Not the model itself: what it holds must not hold it, or its memory would not be freed at
    # once.
    found: list[Any] = []
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
            or "_is_replica" in state
        ):
            return None
        for tensors in (state["_parameters"], state["_buffers"]):
            found += [tensor.data_ptr() for tensor in tensors.values() if tensor is not None]
        parts = [part for part in state["_modules"].values() if part is not None]
        # Modules, not their ids, which others may get after them. Two modules are equal only if
        # they are the same.
        found += parts
        modules += parts
    return tuple(found)


def _any_global_hook() -> bool:
    hooks = nn.modules.module
    return bool(hooks._global_forward_hooks or hooks._global_forward_pre_hooks)


def any_mode() -> bool:
    """Return whether something sees, or replaces, every operator of this thread.

    For instance a counter of FLOPs. `torch.set_default_device`, which is also made in this way,
    changes nothing of a graph.
    """
    if torch._C._len_torch_dispatch_stack():
        return True
    modes = _get_current_function_mode_stack() if torch._C._len_torch_function_stack() else ()
    return any(not isinstance(mode, DeviceContext) for mode in modes)


def kind_of(batch: Tensor) -> tuple[Hashable, ...]:
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
