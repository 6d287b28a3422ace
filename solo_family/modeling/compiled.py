"""Compile the parts of a network for training (`SOLVER.COMPILE`), or run them as they are."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils._device import DeviceContext

from ..errors import ConfigError
from ..ops.gpu_memory import lacks_memory
from .derived_class import derived
from .interface import MethodInterface


def compile_network(model: nn.Module, backend: Any = "inductor") -> None:
    """Let the parts of a model that `MethodInterface.network_parts` names be compiled, in place.

    They are in training only, when they run first. Sizes are variables of the compiled code; what
    is nevertheless compiled again for other sizes is limited by torch
    (`torch._dynamo.config.recompile_limit`, 8), and runs uncompiled from then on. Names and values
    of parameters do not change.

    Args:
        model: of this package.
        backend: the name of one of `torch.compile`'s, or a function.

    Raises:
        ConfigError: the model names no parts.
    """
    parts = model.network_parts if isinstance(model, MethodInterface) else ()
    if not parts:
        raise ConfigError(
            f"SOLVER.COMPILE is True, but {type(model).__name__} names no parts to compile "
            "(MethodInterface.network_parts). Set SOLVER.COMPILE False."
        )
    compilation = Compilation(backend)
    for part in parts:
        cls: Any = type(part)
        part.__class__ = _compiling(cls)
        part.compilation = compilation  # type: ignore[assignment]


class Compilation:
    """Run the compiled forms of the parts of a model, until one of them can't be compiled.

    Args:
        backend: the name of one of `torch.compile`'s, or a function.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.failed = False

    def run(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return `forward(*args, **kwargs)`, with one warning if it can't be compiled."""
        if not self.failed:
            try:
                with _without_modes(), _settings():
                    return _compiled(forward, self.backend)(*args, **kwargs)
            except Exception as error:  # compilers, drivers and their caches may raise anything
                if lacks_memory(error):
                    raise
                self._give_up(error)
        # Outside of the handler, whose traceback holds tensors.
        return forward(*args, **kwargs)

    def _give_up(self, error: Exception) -> None:
        self.failed = True
        what = " ".join(str(error).split())[:300]
        warnings.warn(
            "Training continues without torch.compile: it failed with "
            f"{type(error).__name__}: {what}. SOLVER.COMPILE False goes without it from the start.",
            RuntimeWarning,
            stacklevel=2,
        )


@cache
def _compiling(cls: Any) -> Any:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return cls.forward(self, *args, **kwargs)
        return self.compilation.run(cls.forward, self, *args, **kwargs)

    return derived(cls, _compiling, {"forward": forward})


@cache
def _compiled(forward: Callable[..., Any], backend: Any) -> Callable[..., Any]:
    return torch.compile(forward, backend=backend, dynamic=True)


@contextmanager
def _without_modes() -> Iterator[None]:
    """Leave what replaces torch's functions, `CpuGradients`: compilers replace them themselves."""
    kept: list[Any] = []
    while any(not isinstance(mode, DeviceContext) for mode in _get_current_function_mode_stack()):
        kept.append(_pop_mode())
    try:
        yield
    finally:
        while kept:
            _push_mode(kept.pop())


@contextmanager
def _settings() -> Iterator[None]:
    """Set how torch compiles, where its version has the setting."""
    import torch._dynamo.config as graphs
    import torch._functorch.config as functions
    import torch._inductor.config as kernels
    import torch.fx.experimental._config as sizes

    with ExitStack() as stack:
        for config, name, value in (
            # The backward pass is compiled with the forward pass, where its failure is caught.
            (functions, "force_non_lazy_backward_lowering", True),
            # On a CPU the compiler would change layouts, and fix all sizes by the new strides.
            (kernels, "layout_optimization", False),
            # The parts of a model are too small to be divided by DDP's buckets.
            (graphs, "optimize_ddp", False),
            # Two sides that are equal by chance, such as those of a square, stay two variables.
            (sizes, "use_duck_shape", False),
        ):
            if hasattr(config, name):
                stack.enter_context(config.patch({name: value}))
        yield
