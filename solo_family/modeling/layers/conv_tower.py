"""Build the towers of the heads: 3x3 convolutions, each with normalisation and ReLU."""

import math
from functools import partial
from typing import Required, TypedDict

import torch
from detectron2.layers import get_norm
from torch import Tensor, nn

from .coord import append_coords
from .deform_conv import DeformConv2d


def make_norm(norm: str, channels: int) -> nn.Module | None:
    """Return a normalisation layer.

    Args:
        norm: "GN" (gcd(32, channels) groups: the published 32 if 32 divides the channels), "" for
            none, or any name that detectron2's `get_norm` knows.
        channels: number of channels.

    Returns:
        The layer; None for no normalisation.
    """
    if norm == "GN":
        return GroupNorm(math.gcd(32, channels), channels)
    return get_norm(norm, channels)


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` that also accepts groups of a single value, which it normalises to 0.

    Narrow heads have groups of one channel, and the coarsest level of a tiny image has one pixel.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x`, [B, C, ...]."""
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class ConvNormReLU(nn.Module):
    """Apply convolution, normalisation and ReLU; without norm the convolution has a bias.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side of the kernel, odd.
        norm: see `make_norm`.
        dcn: "" for a plain convolution, "DCN" or "DCNv2" for a deformable one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        norm: str = "GN",
        dcn: str = "",
    ) -> None:
        super().__init__()
        self.norm = make_norm(norm, out_channels)
        bias, padding = self.norm is None, kernel_size // 2
        make_conv = partial(DeformConv2d, modulated=dcn == "DCNv2") if dcn else nn.Conv2d
        self.conv = make_conv(in_channels, out_channels, kernel_size, padding=padding, bias=bias)
        # All convolutions of SOLO's heads are initialised from N(0, 0.01).
        nn.init.normal_(self.conv.weight, std=0.01)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the three to `x`, [B, C, H, W]."""
        x = self.conv(x)
        return (x if self.norm is None else self.norm(x)).relu()


class TowerOptions(TypedDict, total=False):
    """Hold the arguments of `ConvTower` that a head or a branch passes on as they are."""

    num_convs: Required[int]
    norm: str
    dcn: str
    dcn_convs: str


class ConvTower(nn.Sequential):
    """A sequence of `num_convs` layers of `ConvNormReLU`.

    Args:
        in_channels: channels of the input.
        channels: channels of every convolution.
        num_convs: number of layers.
        norm: see `make_norm`.
        dcn: "", "DCN" or "DCNv2".
        dcn_convs: which layers `dcn` makes deformable: "all", or only the "last" (Light heads).
        coord_convs: how many layers see coordinates. Those of the first are part of `in_channels`;
            the others append them themselves.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_convs: int,
        *,
        norm: str = "GN",
        dcn: str = "",
        dcn_convs: str = "all",
        coord_convs: int = 0,
    ) -> None:
        super().__init__(
            *(
                ConvNormReLU(
                    in_channels if index == 0 else channels + 2 * (index < coord_convs),
                    channels,
                    norm=norm,
                    dcn=dcn if dcn_convs == "all" or index == num_convs - 1 else "",
                )
                for index in range(num_convs)
            )
        )
        self.coord_convs = coord_convs

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers to `x`, [B, C, H, W], the first layer's coordinates included."""
        if self.coord_convs <= 1:
            return super().forward(x)  # which torch.compile knows
        for index, layer in enumerate(self):
            x = layer(append_coords(x) if 0 < index < self.coord_convs else x)
        return x
