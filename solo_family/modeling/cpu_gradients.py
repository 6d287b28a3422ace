"""Let all models train on a CPU with the gradients of `ops` that are faster than torch's.

Backbones, pyramids and heads come from many libraries, so that layers are not replaced: the calls
of torch's functions are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..ops import dense_conv, depthwise_conv, group_norm

Size = int | tuple[int, ...] | list[int]


class CpuGradients(TorchFunctionMode):
    """Within a `with` block, convolutions and group norms have the faster gradients.

    Results are torch's; gradients are torch's up to rounding. Nothing of the model changes, and
    what runs elsewhere than on a CPU, or without gradients, is torch's own.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or ours in its place."""
        ours = _OURS.get(func) if torch.is_grad_enabled() else None
        result = ours(*args, **kwargs or {}) if ours else None
        return func(*args, **kwargs or {}) if result is None else result


def _conv2d(
    input: Tensor,  # torch's names, because callers use them
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return the convolution, or None if torch's is as fast."""
    if isinstance(padding, str):
        return None
    steps, edges, gaps = map(_pair, (stride, padding, dilation))
    if dense_conv.has_faster_gradients(input, weight, groups):
        return dense_conv.dense_conv(input, weight, bias, steps, edges, gaps)
    if not depthwise_conv.has_faster_gradients(input, weight, steps, gaps, groups):
        return None
    return depthwise_conv.depthwise_conv(input, weight, bias, steps, edges)


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor | None:
    """Return the normalized map, or None if torch's is as fast."""
    if not group_norm.has_faster_gradients(input, num_groups):
        return None
    return group_norm.group_norm(input, num_groups, weight, bias, eps)


def _pair(size: Size) -> tuple[int, int]:
    values = (size,) if isinstance(size, int) else tuple(size)
    return (values[0], values[-1])


# torch reports a call of F.group_norm as that or, by its version, as what that calls.
_OURS: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    torch.conv2d: _conv2d,
    F.group_norm: _group_norm,
    torch.group_norm: _group_norm,
}
