"""Fold batch norms with fixed statistics into the convolutions before them, for inference.

O output channels, I input channels per group, k side of the kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.layers import Conv2d
from torch import Tensor, nn

from .layers import ConvNormReLU
from .layers.deform_conv import DeformConv
from .layers.folded_norm import FoldingConv2d
from .norm_pairs import has_statistics, observed_pairs


def fold_batch_norms(module: nn.Module) -> None:
    """Fold the norms of detectron2's and this package's convolutions, in place.

    In these a norm is a part of its convolution, or named beside it. Others' norms stay, see
    `fold_observed_norms`.

    Args:
        module: the module, in evaluation mode and float32.
    """
    for part in module.modules():
        if isinstance(part, Conv2d | DeformConv) and has_statistics(part.norm):
            _fold(part, part.norm)
            part.norm = None
        elif isinstance(part, ConvNormReLU) and has_statistics(part.norm):
            _fold(part.conv, part.norm)
            part.norm = None
        if isinstance(part, FoldingConv2d):
            part.__class__ = Conv2d  # type: ignore[assignment]
        # detectron2's own function handles warnings on every call, which takes longer than the
        # launch.
        if type(part) is Conv2d and part.norm is None and part.activation is None:
            part.__class__ = nn.Conv2d  # type: ignore[assignment]


def fold_observed_norms(backbone: nn.Module, channels: int, size_divisibility: int) -> None:
    """Fold the norms of a backbone of another package, for instance timm's, in place.

    A norm is folded only if all of its inputs are outputs of one convolution, which nothing else
    reads, see `observed_pairs`.

    Args:
        backbone: the backbone, in evaluation mode and float32.
        channels: channels of its input.
        size_divisibility: the sides of its inputs are multiples of this.
    """
    for conv, norm in observed_pairs(backbone, channels, size_divisibility):
        _fold(conv, norm)
        norm._parameters.clear()
        norm._buffers.clear()
        norm.__class__ = FoldedNorm
        # Not as a part of the norm, which the convolution is none of.
        norm.__dict__["conv"] = conv


class FoldedNorm(nn.Module):
    """What is left of a norm: of timm's, the activation that they include.

    Attributes:
        conv: the convolution that it is folded into, whose outputs are its inputs.
    """

    conv: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation, if the norm included one that is not a convolution's now."""
        act = self._modules.get("act")
        return x if act is None else act(x)


@torch.no_grad()
def _fold(conv: Any, norm: Any) -> None:
    """Change weights [O, I, k, k] and the bias, [O]."""
    factor = (norm.running_var + norm.eps).rsqrt()
    factor = factor if norm.weight is None else factor * norm.weight
    shift = -norm.running_mean * factor
    if norm.bias is not None:
        shift = shift + norm.bias
    if conv.bias is not None:
        shift = shift + conv.bias * factor
    conv.weight = nn.Parameter(conv.weight * factor[:, None, None, None], requires_grad=False)
    conv.bias = nn.Parameter(shift, requires_grad=False)
