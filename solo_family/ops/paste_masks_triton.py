"""Paste small masks into boxes of an image in one Triton kernel, without enlarged soft masks.

N masks, m their side; H W of the image; R regions of it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .jit_triton import jit
from .join_boxes_triton import box_of_extents, join_boxes, store_box

# Pixels of one program, a region, and how many of its rows are interpolated at a time.
_REGION_HEIGHT, _REGION_WIDTH = 32, 64
_ROWS = 4


def paste_masks_triton(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float
) -> tuple[Tensor, Tensor]:
    """Compute `paste_masks_with_boxes`, with the same arguments and results."""
    count, (height, width) = len(masks), size
    result = torch.empty((count, height, width), dtype=torch.bool, device=masks.device)
    if not result.numel():
        return result, masks.new_zeros((count, 4), dtype=torch.float32)
    across = triton.cdiv(width, _REGION_WIDTH)
    regions = triton.cdiv(height, _REGION_HEIGHT) * across
    corners = torch.empty((count, regions, 4), dtype=torch.int32, device=masks.device)
    # Triton launches on the current GPU, which may be a different one.
    with torch.cuda.device_of(masks):
        _paste_kernel[(count * regions,)](
            masks.contiguous(),
            boxes.contiguous(),
            result.view(torch.uint8),
            corners,
            threshold,
            masks.shape[1],
            height,
            width,
            regions,
            across,
            REGION_HEIGHT=_REGION_HEIGHT,
            HEIGHT=_ROWS,
            WIDTH=_REGION_WIDTH,
        )
    return result, join_boxes(corners)


@jit(
    do_not_specialize=("side", "height", "width", "regions", "across"),
    do_not_specialize_on_alignment=("masks", "boxes", "result"),
)
def _paste_kernel(
    masks,
    boxes,
    result,
    corners,
    threshold: tl.float32,
    side: tl.int32,
    height: tl.int32,
    width: tl.int32,
    regions: tl.int32,
    across: tl.int32,
    REGION_HEIGHT: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
):
    region = tl.program_id(0) % regions
    mask = (tl.program_id(0) // regions).to(tl.int64)
    top, left = region // across * REGION_HEIGHT, region % across * WIDTH
    right, bottom = tl.minimum(left + WIDTH, width), tl.minimum(top + REGION_HEIGHT, height)
    x = left + tl.arange(0, WIDTH)
    soft, pixels = masks + mask * side * side, result + mask * height * width + x[None, :]
    box = boxes + mask * 4
    x0, y0, x1, y1 = tl.load(box), tl.load(box + 1), tl.load(box + 2), tl.load(box + 3)
    # Beyond half a cell around the box all values are 0.
    reached = (_place(right - 1, x0, x1, side) > -1) & (_place(left, x0, x1, side) < side)
    reached &= (_place(bottom - 1, y0, y1, side) > -1) & (_place(top, y0, y1, side) < side)
    first_row = tl.full((HEIGHT, WIDTH), 2**31 - 1, dtype=tl.int32)
    last_row = tl.full((HEIGHT, WIDTH), -1, dtype=tl.int32)
    if reached:
        column = _place(x, x0, x1, side)[None, :]
        for step in range(0, tl.cdiv(bottom - top, HEIGHT)):
            y = top + step * HEIGHT + tl.arange(0, HEIGHT)
            value = _sampled(soft, side, _place(y, y0, y1, side)[:, None], column)
            exists = (y < bottom)[:, None] & (x < right)[None, :]
            inside = (value >= threshold) & exists
            tl.store(pixels + y.to(tl.int64)[:, None] * width, inside.to(tl.uint8), mask=exists)
            first_row = tl.minimum(first_row, tl.where(inside, y[:, None], first_row))
            last_row = tl.maximum(last_row, tl.where(inside, y[:, None], last_row))
    else:
        y = top + tl.arange(0, REGION_HEIGHT)
        exists = (y < bottom)[:, None] & (x < right)[None, :]
        nothing = tl.zeros((REGION_HEIGHT, WIDTH), dtype=tl.uint8)
        tl.store(pixels + y.to(tl.int64)[:, None] * width, nothing, mask=exists)
    extents = box_of_extents(first_row, last_row, x, width, height)
    corner = corners + tl.program_id(0).to(tl.int64) * 4
    store_box(corner, extents[0], extents[1], extents[2], extents[3])


@triton.jit
def _place(pixel, start, stop, side):
    """Return where pixels sample a mask, in cells whose centres are whole numbers.

    The steps are those of detectron2's `paste_masks_in_image` and torch's `grid_sample`.
    """
    grid = (pixel + 0.5 - start) / (stop - start) * 2 - 1
    return ((grid + 1) * side - 1) / 2


@triton.jit
def _sampled(soft, side, row, column):
    """Interpolate a mask, which is 0 outside, at [HEIGHT, 1] rows and [1, WIDTH] columns."""
    above, before = tl.floor(row), tl.floor(column)
    below, after = above + 1, before + 1
    value = _cell(soft, side, above, before) * ((after - column) * (below - row))
    value += _cell(soft, side, above, after) * ((column - before) * (below - row))
    value += _cell(soft, side, below, before) * ((after - column) * (row - above))
    value += _cell(soft, side, below, after) * ((column - before) * (row - above))
    return value


@triton.jit
def _cell(soft, side, row, column):
    """Read cells, 0 outside the mask."""
    inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
    place = row.to(tl.int32) * side + column.to(tl.int32)
    return tl.load(soft + place, mask=inside, other=0.0)
