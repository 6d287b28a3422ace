"""Prepare a network for inference on a GPU: few kernels, each of which does several steps."""

from __future__ import annotations

from typing import Any, cast

from detectron2.layers import Conv2d
from detectron2.modeling.backbone import FPN
from torch import Tensor, nn

from .fast_group_norm import FusedGroupNorm, make_group_norms_fast
from .fused_conv import FusedConv2d
from .fused_fpn import FusedFPN
from .fused_stem import FusedStem
from .joined_blocks import JoinedBlock
from .joined_conv import can_join, is_bare, is_relu, join_what_follows
from .layers import ConvNormReLU


def fuse_convolutions(model: nn.Module) -> None:
    """Join ReLUs, norms and sums to a model's convolutions, in place.

    Args:
        model: on a GPU, in evaluation mode, without gradients; of one dtype, channels last.
    """
    for module in list(model.modules()):
        if type(module) in (nn.Conv2d, Conv2d) and can_join(module):
            take = FusedStem.take if FusedStem.suits(module) else FusedConv2d.take
            take(cast(nn.Conv2d, module))
    join_what_follows(model)
    make_group_norms_fast(model, FusedGroupNorm)
    for module in model.modules():
        _join_group_norm(module)
        if isinstance(module, JoinedBlock):
            _join_shortcut(module)
        if type(module) is FPN:
            module.__class__ = FusedFPN


def _join_group_norm(module: Any) -> None:
    """Let a group norm apply the ReLU after it, in modules that are known to apply both."""
    norm = getattr(module, "norm", None)
    if type(norm) is not FusedGroupNorm or norm.relu:
        return
    if type(module) is ConvNormReLU:
        norm.relu, module.__class__ = True, _ConvNorm
    elif type(module) is FusedConv2d and is_relu(module.activation):
        norm.relu, module.activation = True, None


def _join_shortcut(block: Any) -> None:
    """Add the bias of a block's shortcut to that of the convolution which adds to it."""
    shortcut, last = block.shortcut, block.last
    if is_bare(shortcut) and shortcut.bias is not None and last.bias is not None:
        both = shortcut.bias.data.float() + last.bias.data.float()
        last.bias.data, shortcut.bias = both.to(last.bias.dtype), None


class _ConvNorm(ConvNormReLU):
    """A convolution whose norm applies the ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))  # type: ignore[misc]
