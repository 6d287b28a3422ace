"""Normalize groups fast in models that are prepared for inference, channels last.

B images, C channels, H W of a map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops.group_norm import is_faster_contiguous
from ..ops.group_norm_relu import group_norm_relu
from .layers.conv_tower import GroupNorm


class FastGroupNorm(nn.GroupNorm):
    """Normalize small maps with channels last on a contiguous copy, for inference."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `x`, [B, C, H, W]; the order in memory stays, and results but for rounding."""
        copies = is_faster_contiguous(x, self.num_groups)
        given = x.contiguous() if copies else x
        result = torch.group_norm(given, self.num_groups, self.weight, self.bias, self.eps)
        return result.contiguous(memory_format=torch.channels_last) if copies else result


class FusedGroupNorm(nn.GroupNorm):
    """Normalize maps with channels last on a GPU, and apply a ReLU if `relu` is set."""

    relu = False

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `x`, [B, C, H, W]; the order in memory stays, and results but for rounding."""
        return group_norm_relu(x, self.num_groups, self.weight, self.bias, self.eps, self.relu)


def make_group_norms_fast(model: nn.Module, kind: type[nn.GroupNorm] = FastGroupNorm) -> None:
    """Replace torch's and this package's group norms of a model, in place; others stay.

    Args:
        model: for inference.
        kind: `FastGroupNorm` on a CPU, `FusedGroupNorm` on a GPU.
    """
    for module in model.modules():
        if type(module) in (nn.GroupNorm, GroupNorm):
            module.__class__ = kind
