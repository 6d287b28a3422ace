"""Sine position encoding of feature maps (DETR, arXiv 2005.12872, appendix A.4)."""

import math

import torch
from torch import Tensor

from ...modeling.layers.remembered import remembered

_TEMPERATURE = 10000.0


def sine_position_encoding(x: Tensor, channels: int) -> Tensor:
    """Returns the normalised encoding of the pixels of a feature map.

    Rows and columns are counted from 1 and scaled so that the last one is 2 pi; each is the
    argument of sines and cosines of `channels` / 4 wavelengths.

    Args:
        x: features [B, C, H, W], of which only size, dtype and device matter.
        channels: of the encoding, a multiple of 4.

    Returns:
        [1, channels, H, W] in the dtype of `x`: the encoding of y, then that of x, and in each sine
        and cosine take turns.
    """
    height, width = x.shape[-2:]
    return _encoding(x, height, width, channels, x.dtype)


@remembered
def _encoding(
    height: int, width: int, channels: int, dtype: torch.dtype, *, device: torch.device
) -> Tensor:
    wavelengths = torch.arange(channels // 4, dtype=torch.float32, device=device)
    wavelengths = _TEMPERATURE ** (4 * wavelengths / channels)

    def encode(size: int) -> Tensor:
        position = torch.arange(1, size + 1, dtype=torch.float32, device=device)
        angle = (position / (size + 1e-6) * 2 * math.pi)[:, None] / wavelengths
        return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1).T

    ys = encode(height)[:, :, None].expand(-1, -1, width)
    xs = encode(width)[:, None, :].expand(-1, height, -1)
    return torch.cat([ys, xs])[None].to(dtype)
