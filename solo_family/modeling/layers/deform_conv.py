"""Convolve deformably, v1 (arXiv 1703.06211) and v2 (arXiv 1811.11168), through torchvision."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from ...detectron2_patches import deformable_blocks_of


class DeformConv(nn.Module):
    """`detectron2.layers.DeformConv` without detectron2's compiled ops: same arguments and weights.

    Offsets are ordered as in detectron2: [B, 2 x kernel area x groups, H, W], y before x.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation = stride, padding, dilation
        shape = (out_channels, in_channels // groups, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.norm, self.activation = norm, activation
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolve `x`, [B, C, H, W], at shifted positions, weighted by `mask` if given."""
        # torchvision's kernels need one dtype, and on a CPU float32 at least; so does its autocast.
        dtype = torch.promote_types(x.dtype, torch.float32)
        # Of a 1 x 1 kernel with channels last they can't write the gradient. This is a view of it.
        weight = self.weight.flatten(1).view_as(self.weight)
        x = deform_conv2d(
            x.to(dtype),
            offset.to(dtype),
            weight.to(dtype),
            None if self.bias is None else self.bias.to(dtype),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=None if mask is None else mask.to(dtype),
        ).to(x.dtype)
        x = x if self.norm is None else self.norm(x)
        return x if self.activation is None else self.activation(x)


class DeformConv2d(DeformConv):
    """A convolution that predicts its own offsets, and, if `modulated` (v2), its sampling weights.

    The offsets start at 0, so that it begins as the plain convolution with the same weights (v2:
    times the initial sampling weight, 0.5).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        modulated: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.modulated = modulated
        maps = (3 if modulated else 2) * kernel_size**2
        self.offset = nn.Conv2d(in_channels, maps, kernel_size, stride, padding)
        for parameter in self.offset.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve `x`, [B, C, H, W], at the positions that it predicts."""
        offset = self.offset(x)
        if not self.modulated:
            return super().forward(x, offset)
        # The published layout: all offsets first, then one sampling weight per kernel position.
        split = offset.shape[1] // 3 * 2
        return super().forward(x, offset[:, :split], offset[:, split:].sigmoid())


def torchvision_deform_conv() -> AbstractContextManager[None]:
    """Return a context in which detectron2's ResNet builds its deformable blocks with ours."""
    return deformable_blocks_of(DeformConv)
