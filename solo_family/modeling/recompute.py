"""Compute activations again in the backward pass instead of keeping them: less memory, more time.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from copy import copy
from functools import cache, partial
from itertools import chain
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils.checkpoint import checkpoint

from .derived_class import derived

_Contexts = tuple[AbstractContextManager[None], AbstractContextManager[None]]


def recompute(module: nn.Module, method: str = "forward") -> None:
    """Let a module keep only its inputs in training, in place, and compute the rest again.

    Names and values of its parameters do not change, and neither does what it computes: the
    gradients are the same, and norms update their statistics once. In evaluation mode and without
    gradients it is as before.

    Args:
        module: must not write to its inputs.
        method: the method that is called.
    """
    cls: Any = type(module)
    module.__class__ = _recomputing(method, cls)


def recompute_parts(sequence: nn.Sequential) -> None:
    """Let a plain sequence of layers keep the inputs of about as many parts as each has layers."""
    cls: Any = type(sequence)
    sequence.__class__ = _in_parts(cls)


@cache
def _recomputing(method: str, cls: Any) -> Any:
    """Return a class of the same name whose method is recomputed in the backward pass."""

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return recomputed(self, partial(getattr(cls, method), self), *args, **kwargs)

    return derived(cls, partial(_recomputing, method), {method: call})


@cache
def _in_parts(cls: Any) -> Any:
    def forward(self: nn.Sequential, x: Tensor) -> Tensor:
        for part in _parts_of(self):
            x = recomputed(self, partial(_run, part), x)
        return x

    return derived(cls, _in_parts, {"forward": forward})


def _parts_of(sequence: nn.Sequential) -> list[list[nn.Module]]:
    """Return the layers in parts, each of which begins with a layer that has weights.

    The others may write to their input, which is the output of the layer before them.
    """
    groups: list[list[nn.Module]] = []
    for layer in sequence:
        if not groups or any(True for _ in layer.parameters()):
            groups.append([])
        groups[-1].append(layer)
    size = math.isqrt(len(groups)) or 1
    starts = range(0, len(groups), size)
    return [[*chain(*groups[start : start + size])] for start in starts]


def _run(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def recomputed(module: nn.Module, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return `function(*args, **kwargs)`, which in training runs again in the backward pass.

    Args:
        module: in whose training mode it is recomputed, and whose buffers it may write to.
        function: must not write to tensors that it is given; lists and dicts are copied for it.
        args: of the function.
        kwargs: likewise.
    """
    if not (module.training and torch.is_grad_enabled()):
        return function(*args, **kwargs)
    contexts = partial(_contexts, module)
    run = partial(_call, function)
    return checkpoint(run, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return `function(*args, **kwargs)`; some of timm's replace what is in a list of theirs."""
    return function(*map(_own, args), **{name: _own(value) for name, value in kwargs.items()})


def _own(value: Any) -> Any:
    return copy(value) if type(value) in (list, dict) else value


def _contexts(module: nn.Module) -> _Contexts:
    """Return the contexts of the computation and of the second one."""
    modes = _get_current_function_mode_stack()
    return nullcontext(), _as_then(modes, module)


@contextmanager
def _as_then(modes: Sequence[Any], module: nn.Module) -> Iterator[None]:
    """Compute as the first time: with the same modes, such as `CpuGradients`.

    Statistics are not updated again. PyTorch itself restores autocast and random numbers.
    """
    active = _get_current_function_mode_stack()
    with ExitStack() as stack:
        for mode in modes:
            # A backward pass may run inside or outside of them, or in another thread.
            if not any(mode is other for other in active):
                stack.enter_context(mode)
        places = list(_places(module))
        buffers = [part._buffers[name] for part, name in places]
        for (part, name), buffer in zip(places, buffers):
            part._buffers[name] = None if buffer is None else buffer.clone()
        try:
            yield
        finally:
            for (part, name), buffer in zip(places, buffers):
                part._buffers[name] = buffer


def _places(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Yield modules and the names of their buffers that may be statistics, which are written to."""
    for part in module.modules():
        if part.training and not isinstance(part, FrozenBatchNorm2d):
            yield from ((part, name) for name in part._buffers)
