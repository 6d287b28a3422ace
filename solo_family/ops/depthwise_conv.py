"""Depthwise convolution whose gradients are fast on a CPU.

B images, C channels, H W rows and columns of the input, Y X of the output, K of the kernel.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Pair = tuple[int, int]

# oneDNN's fast kernel for the gradient of the weights is for kernels of 3 x 3.
_FAST = 3


def has_faster_gradients(
    x: Tensor, weight: Tensor, stride: Pair, dilation: Pair, groups: int
) -> bool:
    """Return whether `depthwise_conv` takes this convolution, and has the faster gradients.

    oneDNN, which torch convolves with on a CPU, lacks a fast kernel for two gradients of depthwise
    convolutions, and takes 5 to 50 times as long for them: that of weights other than 3 x 3, and in
    bfloat16 that of the input if the stride is not 1.

    Args:
        x: [B, C, H, W].
        weight: of the convolution.
        stride: of rows and of columns.
        dilation: of rows and of columns.
        groups: of channels.
    """
    depthwise = x.dim() == 4 and 1 < groups == x.shape[1] == weight.shape[0]
    if not depthwise or dilation != (1, 1) or x.device.type != "cpu":
        return False
    return _is_wide(weight) or (stride != (1, 1) and _result_dtype(x) == torch.bfloat16)


def depthwise_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair
) -> Tensor:
    """Convolve each channel with a kernel of its own.

    The result is that of `torch.conv2d`. The gradients are its sums in another order.

    Args:
        x: [B, C, H, W], floating, on a CPU.
        weight: [C, 1, K, K]; under autocast its dtype may be another.
        bias: [C], or None.
        stride: of rows and of columns.
        padding: of rows and of columns.

    Returns:
        [B, C, Y, X].
    """
    result: Tensor = _DepthwiseConv.apply(x, weight, bias, stride, padding)
    return result


class _DepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair
    ) -> Tensor:
        result = F.conv2d(x, weight, bias, stride, padding, groups=len(weight))
        # What torch's own convolution saves, in its order: activation checkpointing computes layers
        # again with that one.
        ctx.save_for_backward(x.to(result.dtype), weight.to(result.dtype))
        ctx.stride, ctx.padding, ctx.dtypes = stride, padding, (x.dtype, weight.dtype)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _of_input(gradient, x, weight, ctx.stride, ctx.padding).to(ctx.dtypes[0])
        if ctx.needs_input_grad[1]:
            of_weight = _of_weight(gradient, x, weight, ctx.stride, ctx.padding).to(ctx.dtypes[1])
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3), dtype=ctx.dtypes[1])
        return of_x, of_weight, of_bias, None, None


def _of_input(gradient: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Return the gradient of the input, [B, C, H, W], of the result's dtype or in float32."""
    slow = stride != (1, 1) and gradient.dtype == torch.bfloat16
    dtype = torch.float32 if slow else gradient.dtype
    # Of the input only the shape and the order in memory are read.
    like = torch.empty_like(x, dtype=dtype) if slow else x
    mask = [True, False, False]
    return _backward(gradient.to(dtype), like, weight.to(dtype), stride, padding, mask)[0]


def _of_weight(gradient: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Return the gradient of the weight, [C, 1, K, K], of the weight's dtype.

    That of a part of the kernel is the gradient of a smaller kernel, of the part's size, over the
    input that this part sees. So kernels are put together from parts of 3 x 3, which overlap where
    K is no multiple of 3.
    """
    mask = [False, True, False]
    if not _is_wide(weight):
        return _backward(gradient, x, weight, stride, padding, mask)[1]
    padded = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    part = weight.new_empty((len(weight), 1, _FAST, _FAST))
    height, width = ((n - 1) * s + _FAST for n, s in zip(gradient.shape[2:], stride))
    result = torch.empty_like(weight)
    for i, j in product(*map(_starts, weight.shape[2:])):
        seen = padded[:, :, i : i + height, j : j + width]
        found = _backward(gradient, seen, part, stride, (0, 0), mask)[1]
        result[:, :, i : i + _FAST, j : j + _FAST] = found
    return result


def _starts(length: int) -> list[int]:
    """Return where parts of 3 begin that cover a side of a kernel."""
    return sorted({*range(0, length - _FAST + 1, _FAST), length - _FAST})


def _is_wide(weight: Tensor) -> bool:
    return min(weight.shape[2:]) >= _FAST < max(weight.shape[2:])


def _result_dtype(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, mask: list[bool]
) -> tuple[Tensor, ...]:
    """Return torch's gradients of the input, the weight and the bias: those that `mask` names."""
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), mask
    )
