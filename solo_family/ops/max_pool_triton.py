"""Pool maps with channels last by their maximum, in a Triton kernel.

B images; C channels; h w of the maps; H W of the result.
"""

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from .jit_triton import jit
from .map_blocks_triton import empty_map, map_blocks


def max_pool_triton(x: Tensor) -> Tensor:
    """Compute `max_pool`.

    Args:
        x: float16, bfloat16 or float32 [B, C, h, w], channels last.

    Returns:
        [B, C, H, W], channels last.
    """
    channels, height, width = x.shape[1:]
    size = (height + 1) // 2, (width + 1) // 2
    result = empty_map(x, size)
    if not result.numel():
        return result
    grid, columns, rows = map_blocks(result)
    # Triton launches on the current GPU, which may be a different one.
    with torch.cuda.device_of(x):
        _max_pool_kernel[grid](
            *(x, result, height, width, *size), CHANNELS=channels, COLUMNS=columns, ROWS=rows
        )
    return result


@jit(do_not_specialize=["h", "w", "height", "width"])
def _max_pool_kernel(
    source,
    target,
    h,
    w,
    height,
    width,
    CHANNELS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    image = tl.program_id(2).to(tl.int64)
    exists = (pixel < height * width)[:, None] & (channel < CHANNELS)
    start = source + image * h * w * CHANNELS + channel
    top, left = (pixel // width) * 2 - 1, (pixel % width) * 2 - 1
    most = tl.full([ROWS, COLUMNS], float("-inf"), tl.float32)
    for down in tl.static_range(3):
        for along in tl.static_range(3):
            row, column = top + down, left + along
            inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
            place = start + (row * w + column)[:, None] * CHANNELS
            value = tl.load(place, mask=exists & inside[:, None], other=float("-inf"))
            value = value.to(tl.float32)
            most = tl.maximum(most, value, propagate_nan=tl.PropagateNan.ALL)
    place = (image * height * width + pixel[:, None]) * CHANNELS + channel
    tl.store(target + place, most.to(target.dtype.element_ty), mask=exists)
