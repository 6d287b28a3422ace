"""Batch norm of fixed statistics inside the convolution before it, in training.

O output channels, I input channels per group, k side of the kernel.
"""

from typing import Any

import torch
from detectron2.layers import Conv2d
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm


class FoldingConv2d(Conv2d):
    """detectron2's convolution, whose batch norm becomes part of its weights while training.

    With fixed statistics a norm is a factor and a summand of each channel. Multiplying the weights
    by the factor gives the same sums, up to rounding, and the same gradients of all parameters,
    but what the convolution gives need not be kept for the backward pass: of a ResNet-50 of which
    the norms' weights are trained that is a third of all that is kept.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and torch.is_grad_enabled() and _is_fixed(self.norm)):
            return super().forward(x)
        weight, bias = _Fold.apply(
            self.weight,
            self.norm.weight,
            self.norm.bias,
            self.norm.running_mean,
            self.norm.running_var,
            self.norm.eps,
        )
        x = self._conv_forward(x, weight, bias)
        return x if self.activation is None else self.activation(x)


def fold_fixed_norms(module: nn.Module) -> None:
    """Makes of a module's convolutions with batch norm `FoldingConv2d`, in place.

    Names and values of parameters stay as they are, and so does what it does when not training.
    """
    for conv in module.modules():
        if type(conv) is Conv2d and isinstance(conv.norm, _BatchNorm) and conv.bias is None:
            conv.__class__ = FoldingConv2d


def _is_fixed(norm: _BatchNorm) -> bool:
    return not norm.training and norm.affine and norm.running_mean is not None


class _Fold(torch.autograd.Function):
    """From weights [O, I, k, k] and a norm's values, [O] each, to weights and a bias, [O]."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor]:
        share = (variance + eps).rsqrt_()
        factor = norm_weight * share
        ctx.save_for_backward(weight, factor, share, mean)
        return weight * _each(factor), torch.addcmul(norm_bias, mean, factor, value=-1)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_weight: Tensor, of_bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        weight, factor, share, mean = ctx.saved_tensors
        of_factor = (of_weight * weight).flatten(1).sum(1)
        of_factor.addcmul_(of_bias, mean, value=-1)
        return of_weight * _each(factor), of_factor.mul_(share), of_bias, None, None, None


def _each(factor: Tensor) -> Tensor:
    return factor[:, None, None, None]
