"""Group normalization whose gradients are fast for maps with channels last on a CPU.

B images, C channels, H W of a map.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .channels_last import is_channels_last


def has_faster_gradients(x: Tensor) -> bool:
    """Return whether `group_norm` has the faster gradients: for channels last on a CPU.

    torch's own take 4 to 10 times as long as for contiguous maps.

    Args:
        x: a map, of any shape.
    """
    return x.device.type == "cpu" and is_channels_last(x)


def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Normalize groups of channels: the result is that of `torch.nn.functional.group_norm`.

    The gradients are computed on contiguous copies.

    Args:
        x: [B, C, H, W], floating, on a CPU, channels last.
        num_groups: a divisor of C.
        weight: [C], or None.
        bias: [C], or None.
        eps: is added to the variance.

    Returns:
        [B, C, H, W], channels last.
    """
    result: Tensor = _GroupNorm.apply(x, num_groups, weight, bias, eps)
    return result


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        num_groups: int,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> Tensor:
        images, channels, height, width = x.shape
        area = height * width
        result, mean, scale = torch.native_group_norm(
            x, weight, bias, images, channels, area, num_groups, eps
        )
        ctx.sizes = (images, channels, area, num_groups)
        ctx.save_for_backward(x, weight, mean, scale)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        needed = [ctx.needs_input_grad[index] for index in (0, 2, 3)]
        of_x, of_weight, of_bias = torch.ops.aten.native_group_norm_backward(
            gradient.contiguous(), x.contiguous(), mean, scale, weight, *ctx.sizes, needed
        )
        if of_x is not None:
            of_x = of_x.contiguous(memory_format=torch.channels_last)
        return of_x, None, of_weight, of_bias, None
