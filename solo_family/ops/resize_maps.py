"""Resize maps of features as torch does, faster on a GPU with channels last.

torch's own kernels for maps with channels last read and write one value at a time, and those for
contiguous maps use few threads where maps are small.

B images; C channels; h w of the maps; H W of the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from . import gpu_kernels
from .channels_last import MOST_VALUES, suits_kernels


def resize_map(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps bilinearly between pixels' centres; maps of that size are resized, too.

    Args:
        x: floating-point [B, C, h, w].
        size: (H, W).

    Returns:
        [B, C, H, W].
    """
    if _suits(size, x) and gpu_kernels.runs("resize_maps", x):
        # Not every machine has Triton.
        from .resize_maps_triton import resize_maps_triton

        return resize_maps_triton(x, (size[0], size[1]), bilinear=True)
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def upsample_twofold(x: Tensor, other: Tensor | None = None) -> Tensor:
    """Resize maps bilinearly to twice their height and width.

    Args:
        x: floating-point [B, C, h, w].
        other: maps of the resulting size and the same dtype, which the result is added to.

    Returns:
        [B, C, 2 h, 2 w].
    """
    given = (x,) if other is None else (x, other)
    size = 2 * x.shape[-2], 2 * x.shape[-1]
    if _suits(size, *given) and _fits(other, x, size) and gpu_kernels.runs("resize_maps", x):
        from .resize_maps_triton import resize_maps_triton

        return resize_maps_triton(x, size, bilinear=True, other=other)
    result = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return result if other is None else other + result


def add_enlarged(other: Tensor, x: Tensor) -> Tensor:
    """Add maps to larger ones; each pixel of these gets the nearest one.

    Args:
        other: floating-point [B, C, H, W].
        x: [B, C, h, w] of the same dtype.

    Returns:
        [B, C, H, W].
    """
    size = other.shape[-2], other.shape[-1]
    if _suits(size, other, x) and _fits(other, x, size) and gpu_kernels.runs("resize_maps", x):
        from .resize_maps_triton import resize_maps_triton

        return resize_maps_triton(x, size, bilinear=False, other=other)
    return other + F.interpolate(x, size=other.shape[-2:], mode="nearest")


def _fits(other: Tensor | None, x: Tensor, size: Sequence[int]) -> bool:
    """Return whether maps that were resized may be added: torch refuses others, or widens them."""
    if other is None:
        return True
    return tuple(other.shape) == (*x.shape[:2], *size) and other.dtype == x.dtype


def _suits(size: Sequence[int], *maps: Tensor) -> bool:
    """Return whether the kernel computes maps of this size from these, or with them."""
    return suits_kernels(*maps) and maps[0].shape[1] * size[0] * size[1] < MOST_VALUES
