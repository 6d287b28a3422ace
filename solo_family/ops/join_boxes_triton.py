"""Find the boxes of masks that a Triton kernel makes region by region.

N masks; R regions of a mask; H W of the masks.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .jit_triton import jit

# Number of regions whose boxes are joined at a time.
_JOINED = 256


def join_boxes(corners: Tensor) -> Tensor:
    """Return the box around the boxes of a mask's regions.

    Args:
        corners: int32 [N, R, 4], x0, y0, x1, y1; see `store_box`.

    Returns:
        float32 [N, 4], see `mask_boxes`.
    """
    count, regions, _ = corners.shape
    boxes = torch.empty((count, 4), dtype=torch.float32, device=corners.device)
    with torch.cuda.device_of(corners):
        _join_kernel[(count,)](corners, boxes, regions, BLOCK=_JOINED)
    return boxes


@triton.jit
def box_of_extents(first_row, last_row, x, width, height):
    """Return the box of the pixels inside, of which there may be none, as x0, y0, x1, y1.

    Args:
        first_row: int32 [HEIGHT, WIDTH]: in each column, the first of the rows that belong to this
            place and are inside, or at least the mask's height.
        last_row: the last one, or -1.
        x: the columns, [WIDTH].
        width: of the mask.
        height: of the mask.
    """
    columns = tl.max(last_row, axis=0)
    x0 = tl.min(tl.where(columns >= 0, x, width), axis=0)
    y0 = tl.minimum(tl.min(tl.min(first_row, axis=1), axis=0), height)
    x1 = tl.max(tl.where(columns >= 0, x + 1, 0), axis=0)
    y1 = tl.max(columns, axis=0) + 1
    return x0, y0, x1, y1


@triton.jit
def store_box(corner, x0, y0, x1, y1):
    """Store a region's box; that of one without pixels begins at the mask's end, and ends at 0."""
    tl.store(corner, x0)
    tl.store(corner + 1, y0)
    tl.store(corner + 2, x1)
    tl.store(corner + 3, y1)


@jit(do_not_specialize=["regions"])
def _join_kernel(corners, boxes, regions: tl.int32, BLOCK: tl.constexpr):
    """Compute the box around the boxes of a mask's regions; zeros if none has pixels."""
    mask = tl.program_id(0).to(tl.int64)
    x0, y0 = tl.full((BLOCK,), 2**31 - 1, tl.int32), tl.full((BLOCK,), 2**31 - 1, tl.int32)
    x1, y1 = tl.zeros((BLOCK,), dtype=tl.int32), tl.zeros((BLOCK,), dtype=tl.int32)
    for first in range(0, regions, BLOCK):
        region = first + tl.arange(0, BLOCK)
        corner = corners + (mask * regions + region) * 4
        exists = region < regions
        x0 = tl.minimum(x0, tl.load(corner, mask=exists, other=2**31 - 1))
        y0 = tl.minimum(y0, tl.load(corner + 1, mask=exists, other=2**31 - 1))
        x1 = tl.maximum(x1, tl.load(corner + 2, mask=exists, other=0))
        y1 = tl.maximum(y1, tl.load(corner + 3, mask=exists, other=0))
    right = tl.max(x1, axis=0)
    box = boxes + mask * 4
    tl.store(box, tl.where(right > 0, tl.min(x0, axis=0), 0).to(tl.float32))
    tl.store(box + 1, tl.where(right > 0, tl.min(y0, axis=0), 0).to(tl.float32))
    tl.store(box + 2, right.to(tl.float32))
    tl.store(box + 3, tl.max(y1, axis=0).to(tl.float32))
