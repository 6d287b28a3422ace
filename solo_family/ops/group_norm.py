"""Group normalization whose gradients are fast for maps with channels last on a CPU.

B images, C channels, H W of a map.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .channels_last import is_channels_last

# Of torch's vectors, by the processor; 32 for all others.
_VECTOR_BYTES = {"AVX512": 64}
# torch 2.11 normalizes smaller maps whose channels are last in another way.
_SMALL = 1024


def has_faster_gradients(x: Tensor, num_groups: int) -> bool:
    """Return whether `group_norm` has the faster gradients: for channels last on a CPU.

    torch's own take two to four times as long as ours, unless the channels of a group fill vectors
    of the processor.

    Args:
        x: a map, of any shape.
        num_groups: a divisor of its channels.
    """
    return x.device.type == "cpu" and is_channels_last(x) and not _fills_vectors(x, num_groups)


def is_faster_contiguous(x: Tensor, num_groups: int) -> bool:
    """Return whether torch normalizes a contiguous copy of a map with channels last faster.

    That is so, 5 to 30 times, for small maps, unless the channels of a group fill vectors of the
    processor: then it takes a third of the time with channels last.

    Args:
        x: a map on a CPU, of any shape.
        num_groups: a divisor of its channels.
    """
    is_small = is_channels_last(x) and x.shape[2] * x.shape[3] < _SMALL
    return is_small and not _fills_vectors(x, num_groups)


def _fills_vectors(x: Tensor, num_groups: int) -> bool:
    size = x.shape[1] // num_groups * x.element_size()
    return size % _VECTOR_BYTES.get(torch.backends.cpu.get_cpu_capability(), 32) == 0


def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Normalize groups of channels: the result is that of `torch.nn.functional.group_norm`.

    That of a small map is the one of a contiguous copy, which rounds in another order.

    The gradients are sums over the places of each channel, and then one product for each value of
    the map, in the order in memory that the map has.

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
        given = x.contiguous() if is_faster_contiguous(x, num_groups) else x
        result, mean, scale = torch.native_group_norm(
            given, weight, bias, images, channels, area, num_groups, eps
        )
        ctx.sizes = (images, channels, area, num_groups)
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.save_for_backward(x, weight, mean, scale)
        return result.contiguous(memory_format=torch.channels_last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        images, channels, area, num_groups = ctx.sizes
        gradient, values = _places(gradient), _places(x)
        dtype = torch.promote_types(x.dtype, torch.float32)
        sums, products = (mean.new_empty(images, channels, dtype=dtype) for _ in range(2))
        for image in range(images):
            each = gradient[image].to(dtype)
            sums[image] = each.sum(0)
            products[image] = (each * values[image].to(dtype)).sum(0)
        # [B, groups, channels of a group]; mean and scale, [B, groups, 1].
        sums, products = (one.view(images, num_groups, -1) for one in (sums, products))
        mean, scale = (one.to(dtype).view(images, num_groups, 1) for one in (mean, scale))
        of_x = None
        if ctx.needs_input_grad[0]:
            weights = sums.new_ones(channels) if weight is None else weight.to(dtype)
            weights = weights.view(num_groups, -1)
            # The gradients of the variance and of the mean, of all values of a group.
            of_mean, of_both = ((weights * one).sum(2, keepdim=True) for one in (sums, products))
            slope = (of_mean * mean - of_both) * scale**3 * num_groups / (channels * area)
            shift = -slope * mean - of_mean * scale * num_groups / (channels * area)
            slope, shift, factor = (
                one.expand_as(sums).reshape(images, channels)
                for one in (slope, shift, scale * weights)
            )
            of_x = torch.empty_like(x, memory_format=torch.channels_last)
            result = _places(of_x)
            for image in range(images):
                part = torch.addcmul(shift[image], values[image].to(dtype), slope[image])
                result[image] = part.addcmul_(gradient[image].to(dtype), factor[image])
        of_weight = of_bias = None
        if ctx.needs_input_grad[2]:
            of_weight = ((products - mean * sums) * scale).sum(0).flatten().to(weight.dtype)
        if ctx.needs_input_grad[3]:
            of_bias = sums.sum(0).flatten().to(ctx.bias_dtype)
        return of_x, None, of_weight, of_bias, None


def _places(x: Tensor) -> Tensor:
    """Return a view of channels last, or a copy, of maps [B, C, H, W] as [B, H * W, C]."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)
