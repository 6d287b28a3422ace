"""Convolve images with a ResNet's stem on a GPU, in blocks of pixels.

cuDNN's kernels for three channels of bfloat16 take most of the time of a ResNet's first layers. The
same sums are those of a smaller kernel over blocks of 2 x 2 pixels, whose number of channels suits
tensor cores.

B images, O output channels, H W of an image.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import Tensor, nn

from . import fused_conv

# Channels of a block: 2 x 2 pixels of 3, and zeros up to what tensor cores read at a time.
_COLOURS, _CHANNELS = 12, 16


class FusedStem(fused_conv.FusedConv2d):
    """A 7 x 7 convolution of stride 2, computed as one of 4 x 4 blocks of stride 1."""

    # Of blocks: 4 x 4 from 16 channels. No part of a state dict: prepared models have none.
    blocks: nn.Conv2d

    @staticmethod
    def suits(conv: Any) -> bool:
        """Return whether a module is such a convolution, of three channels and in bfloat16."""
        if type(conv) not in (nn.Conv2d, Conv2d) or conv.weight.dtype != torch.bfloat16:
            return False
        sides = conv.kernel_size, conv.stride, conv.padding, conv.dilation
        return (*sides, conv.weight.shape[1]) == ((7, 7), (2, 2), (3, 3), (1, 1), 3)

    @classmethod
    def take(cls, conv: nn.Conv2d) -> Any:
        """Return the same object; see `JoinedConv2d.take`."""
        stem = super().take(conv)
        stem.blocks = _of_blocks(stem).eval()
        return stem

    def convolve(self, x: Tensor) -> Tensor:
        """Convolve `x`, and apply `attribute`; see `JoinedConv2d`."""
        even = x.shape[2] % 2 == x.shape[3] % 2 == 0
        if even and self.attribute == "relu" and self.fuses(x):
            fused, plain = partial(self._convolve_blocks, x), partial(self.convolve_plainly, x)
            return self.trusted(x, fused, plain)
        return super().convolve(x)

    def _convolve_blocks(self, x: Tensor) -> Tensor:
        return fused_conv.convolve_and_relu(in_blocks(x), self.blocks)


def in_blocks(image: Tensor) -> Tensor:
    """Return blocks of 2 x 2 pixels, [B, 16, H / 2 + 3, W / 2 + 3], with a border of zeros.

    Two blocks are added above and on the left, one below and on the right.

    Args:
        image: [B, 3, H, W], of even sides.
    """
    images, colours, height, width = image.shape
    rows, columns = height // 2, width // 2
    blocks = image.new_zeros(images, rows + 3, columns + 3, _CHANNELS)
    pixels = image.view(images, colours, rows, 2, columns, 2).permute(0, 2, 4, 3, 5, 1)
    inside = blocks[:, 2:-1, 2:-1, :_COLOURS].unflatten(3, (2, 2, colours))
    inside.copy_(pixels)
    return blocks.permute(0, 3, 1, 2)


def _of_blocks(stem: nn.Conv2d) -> nn.Conv2d:
    """Return the convolution of `in_blocks` that has the stem's results.

    The stem's row u of a kernel meets row 2 i + u - 3 of the image, which is row (u + 1) % 2 of
    block i + (u + 1) // 2 - 2, and so do the columns.
    """
    weight = F.pad(stem.weight.detach(), (1, 0, 1, 0))  # [O, 3, 8, 8]
    parts = weight.unflatten(3, (4, 2)).unflatten(2, (4, 2)).permute(0, 3, 5, 1, 2, 4)
    wide = F.pad(parts.flatten(1, 3), (0, 0, 0, 0, 0, _CHANNELS - _COLOURS))
    conv = nn.Conv2d(_CHANNELS, len(wide), 4, bias=stem.bias is not None)
    conv.weight = nn.Parameter(wide.contiguous(memory_format=torch.channels_last), False)
    conv.bias = stem.bias
    return conv
