"""Convolution of all channels that trains fast on a CPU with AVX2 alone.

B images, I O channels of the input and of the output, H W rows and columns of the input, Y X of the
output, K of the kernel.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from . import winograd
from .channels_last import is_channels_last

Pair = tuple[int, int]

# With fewer channels a product has too few columns to be fast.
_FEWEST_CHANNELS = 16
# Winograd's tiles pay from so many channels on, in results and gradients of the input and in
# gradients of weights, whose other way is slower; and from so many tiles on, since each step
# transforms the weights anew (docs/performance.md).
_TILED_RESULTS, _TILED_WEIGHTS = 128, 64
_FEWEST_TILES = 64


def has_faster_gradients(x: Tensor, weight: Tensor, groups: int) -> bool:
    """Return whether `dense_conv` takes this convolution, and has the faster gradient.

    With channels last, oneDNN's gradient of weights takes up to four times as long as products of
    matrices do on a processor that has AVX2 but no AVX-512 (docs/performance.md).

    Args:
        x: [B, I, H, W].
        weight: of the convolution.
        groups: of channels.
    """
    if x.dim() != 4 or groups != 1 or x.device.type != "cpu" or not weight.requires_grad:
        return False
    if min(weight.shape[:2]) < _FEWEST_CHANNELS or max(weight.shape[2:]) == 1 or not len(x):
        return False
    if torch.is_autocast_enabled("cpu") or (x.dtype, weight.dtype) != (torch.float32,) * 2:
        return False
    return (
        is_channels_last(x) or is_channels_last(weight)
    ) and torch.backends.cpu.get_cpu_capability() == "AVX2"


def dense_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    """Convolve: `torch.conv2d` up to rounding.

    The gradient of the weights is its sums in another order. With 3 x 3 kernels and many channels
    everything is computed in Winograd's tiles; otherwise the result and the gradient of the input
    are torch's.

    Args:
        x: [B, I, H, W], float32, on a CPU.
        weight: [O, I, K, K], float32.
        bias: [O], or None.
        stride: of rows and of columns.
        padding: of rows and of columns.
        dilation: of rows and of columns.

    Returns:
        [B, O, Y, X].
    """
    result: Tensor = _DenseConv.apply(x, weight, bias, stride, padding, dilation)
    return result


class _DenseConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.steps = (stride, padding, dilation)
        ctx.channels = _tiled_channels(x, weight, (padding, stride, dilation, 1))
        if ctx.channels >= _TILED_RESULTS:
            return winograd.convolve(x, winograd.transform_weight(weight), bias, padding[0])
        return F.conv2d(x, weight, bias, stride, padding, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # Autocast may be on again, around the backward pass; the convolution was computed without.
        with torch.autocast("cpu", enabled=False):
            gradients = _gradients(ctx, gradient)
        return (*gradients, None, None, None)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of the input, of the weight and of the bias, where they are needed."""
    x, weight = ctx.saved_tensors
    stride, padding, dilation = ctx.steps
    of_x = of_weight = of_bias = None
    if ctx.needs_input_grad[0] and ctx.channels >= _TILED_RESULTS:
        of_x = winograd.gradient_of_input(gradient, weight, padding[0])
    elif ctx.needs_input_grad[0]:
        of_x = torch.ops.aten.convolution_backward(
            *(gradient, x, weight, None, stride, padding, dilation),
            *(False, (0, 0), 1, [True, False, False]),
        )[0]
    if ctx.needs_input_grad[1] and ctx.channels >= _TILED_WEIGHTS:
        of_weight = winograd.gradient_of_weight(gradient, x, padding[0])
    elif ctx.needs_input_grad[1]:
        of_weight = gradient_of_weight(gradient, x, weight, stride, padding, dilation)
    if ctx.needs_input_grad[2]:
        of_bias = gradient.sum((0, 2, 3))
    return of_x, of_weight, of_bias


def _tiled_channels(x: Tensor, weight: Tensor, geometry: winograd.Geometry) -> int:
    """Return the channels of a convolution that tiles may compute, of the smaller side, or 0."""
    if not winograd.suits(weight, geometry):
        return 0
    few = winograd.count_tiles(x, geometry[0][0]) < _FEWEST_TILES
    return 0 if few else min(weight.shape[:2])


def gradient_of_weight(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    """Return the gradient of the weight, [O, I, K, K], channels last.

    That of one place (i, j) of the kernel is the product of the gradient and of the pixels that the
    place sees: those of the output, moved by (i, j). If input and output have a border as wide as
    the kernel reaches, every pixel lies the same distance behind its partner in memory, so that
    both matrices can be multiplied where they are. With a stride S, the rows with each remainder
    modulo S, and likewise the columns, make images of their own.

    Args:
        gradient: of the result, [B, O, Y, X].
        x: [B, I, H, W].
        weight: [O, I, K, K], of which only the shape and the dtype are read.
        stride: of rows and of columns.
        padding: of rows and of columns.
        dilation: of rows and of columns.
    """
    images, height, width = len(x), *gradient.shape[2:]
    reach = [gap * (length - 1) for gap, length in zip(dilation, weight.shape[2:])]
    # Rows and columns of an image of its own, and of the output with the same border.
    rows, columns = (n + r // s for n, r, s in zip((height, width), reach, stride))
    seen = x.new_zeros(images, rows * stride[0], columns * stride[1], x.shape[1])
    top, left = padding
    inside = seen[:, top : top + x.shape[2], left : left + x.shape[3]]
    # What the last steps of the kernel do not reach may be left over, below and on the right.
    inside.copy_(x[:, :, : inside.shape[1], : inside.shape[2]].permute(0, 2, 3, 1))
    parts = seen.view(images, rows, stride[0], columns, stride[1], -1).permute(2, 4, 0, 1, 3, 5)
    parts = parts.reshape(*stride, images * rows * columns, -1)
    outer = gradient.new_zeros(images, rows, columns, gradient.shape[1])
    outer[:, :height, :width] = gradient.permute(0, 2, 3, 1)
    outer = outer.flatten(0, 2).t()
    result = weight.new_empty(*weight.shape[2:], *weight.shape[:2])
    for i, j in product(*map(range, weight.shape[2:])):
        down, right = i * dilation[0], j * dilation[1]
        part = parts[down % stride[0], right % stride[1]]
        distance = (down // stride[0]) * columns + right // stride[1]
        torch.mm(outer[:, : len(part) - distance], part[distance:], out=result[i, j])
    return result.permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)
