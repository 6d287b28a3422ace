"""Resize maps with channels last, and add them to others, in a Triton kernel.

B images; C channels; h w of the maps; H W of the result.
"""

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from .jit_triton import jit
from .map_blocks_triton import empty_map, map_blocks


def resize_maps_triton(
    x: Tensor, size: tuple[int, int], bilinear: bool, other: Tensor | None = None
) -> Tensor:
    """Compute `resize_map`, `upsample_twofold` or `add_enlarged`.

    Args:
        x: float16, bfloat16 or float32 [B, C, h, w], channels last.
        size: (H, W).
        bilinear: the nearest pixels are taken otherwise.
        other: [B, C, H, W] of the same dtype, channels last, which the result is added to.

    Returns:
        [B, C, H, W], channels last.
    """
    channels, height, width = x.shape[1:]
    result = empty_map(x, size)
    if not result.numel():
        return result
    grid, columns, rows = map_blocks(result)
    # Triton launches on the current GPU, which may be a different one.
    with torch.cuda.device_of(x):
        _resize_maps_kernel[grid](
            *(x, x if other is None else other, result),
            *(height, width, *size, height / size[0], width / size[1]),
            CHANNELS=channels,
            COLUMNS=columns,
            ROWS=rows,
            BILINEAR=bilinear,
            ADDS=other is not None,
        )
    return result


@jit(do_not_specialize=["h", "w", "height", "width", "step_y", "step_x"])
def _resize_maps_kernel(
    source,
    other,
    target,
    h,
    w,
    height,
    width,
    step_y: tl.float32,
    step_x: tl.float32,
    CHANNELS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    BILINEAR: tl.constexpr,
    ADDS: tl.constexpr,
):
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    image = tl.program_id(2).to(tl.int64)
    exists = (pixel < height * width)[:, None] & (channel < CHANNELS)
    row, column = pixel // width, pixel % width
    start = source + image * h * w * CHANNELS + channel
    dtype = target.dtype.element_ty
    if BILINEAR:
        # The positions between pixels' centres, as torch computes them.
        y = tl.maximum((row.to(tl.float32) + 0.5) * step_y - 0.5, 0.0)
        x = tl.maximum((column.to(tl.float32) + 0.5) * step_x - 0.5, 0.0)
        top, left = tl.minimum(y.to(tl.int32), h - 1), tl.minimum(x.to(tl.int32), w - 1)
        below, right = tl.minimum(top + 1, h - 1), tl.minimum(left + 1, w - 1)
        down, along = (y - top)[:, None], (x - left)[:, None]
        a = tl.load(start + (top * w + left)[:, None] * CHANNELS, mask=exists, other=0)
        b = tl.load(start + (top * w + right)[:, None] * CHANNELS, mask=exists, other=0)
        c = tl.load(start + (below * w + left)[:, None] * CHANNELS, mask=exists, other=0)
        d = tl.load(start + (below * w + right)[:, None] * CHANNELS, mask=exists, other=0)
        upper = (1 - along) * a.to(tl.float32) + along * b.to(tl.float32)
        lower = (1 - along) * c.to(tl.float32) + along * d.to(tl.float32)
        value = ((1 - down) * upper + down * lower).to(dtype)
    else:
        top = tl.minimum((row.to(tl.float32) * step_y).to(tl.int32), h - 1)
        left = tl.minimum((column.to(tl.float32) * step_x).to(tl.int32), w - 1)
        value = tl.load(start + (top * w + left)[:, None] * CHANNELS, mask=exists, other=0)
    place = (image * height * width + pixel[:, None]) * CHANNELS + channel
    if ADDS:
        added = tl.load(other + place, mask=exists, other=0).to(tl.float32)
        value = (value.to(tl.float32) + added).to(dtype)
    tl.store(target + place, value, mask=exists)
