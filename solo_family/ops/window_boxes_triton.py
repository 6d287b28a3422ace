"""Box and measure the masks of densely sliding windows in a Triton kernel.

N = H W windows; k positions along each axis; m side of a window, in cells; H W cells of the map.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .jit_triton import jit

# Windows of one program, which are neighbours in a row mostly, and how many rows of their cells it
# looks at at a time.
_WINDOWS = 32
_ROWS = 8


class MeasuredWindows(NamedTuple):
    """The masks of the windows of a map, row by row.

    Attributes:
        boxes: float32 [N, 4], see `WindowBoxes`; of an empty mask, the window's first corner twice.
        areas: int32 [N], in cells.
        totals: float32 [N], the sum of the probabilities inside.
    """

    boxes: Tensor
    areas: Tensor
    totals: Tensor


def window_boxes_triton(
    probabilities: Tensor, positions: int, window_size: int, threshold: float
) -> MeasuredWindows:
    """Box and measure the mask of every cell's window.

    Args:
        probabilities: float32 [k^2, H, W], contiguous.
        positions: k.
        window_size: m.
        threshold: a cell is inside where its probability is above this; cells outside the map have
            the probability 0.
    """
    height, width = probabilities.shape[1:]
    count = height * width
    boxes = probabilities.new_empty((count, 4))
    areas = probabilities.new_empty(count, dtype=torch.int32)
    totals = probabilities.new_empty(count)
    if count:
        # Triton launches on the current GPU, which may be a different one.
        with torch.cuda.device_of(probabilities):
            _window_kernel[(triton.cdiv(count, _WINDOWS),)](
                probabilities,
                boxes,
                areas,
                totals,
                threshold,
                positions,
                window_size,
                height,
                width,
                WINDOWS=_WINDOWS,
                ROWS=_ROWS,
            )
    return MeasuredWindows(boxes, areas, totals)


@jit(
    do_not_specialize=("positions", "window_size", "height", "width"),
    do_not_specialize_on_alignment=("probabilities", "boxes", "areas", "totals"),
)
def _window_kernel(
    probabilities,
    boxes,
    areas,
    totals,
    threshold: tl.float32,
    positions: tl.int32,
    window_size: tl.int32,
    height: tl.int32,
    width: tl.int32,
    WINDOWS: tl.constexpr,
    ROWS: tl.constexpr,
):
    window = tl.program_id(0) * WINDOWS + tl.arange(0, WINDOWS)
    count = height * width
    exists = window < count
    top, left = window // width - window_size // 2, window % width - window_size // 2
    # By cell of a column of the window, in steps of `ROWS`, and window.
    x0, y0 = tl.full((ROWS, WINDOWS), 2**30, tl.int32), tl.full((ROWS, WINDOWS), 2**30, tl.int32)
    x1, y1 = tl.zeros((ROWS, WINDOWS), dtype=tl.int32), tl.zeros((ROWS, WINDOWS), dtype=tl.int32)
    area = tl.zeros((ROWS, WINDOWS), dtype=tl.int32)
    total = tl.zeros((ROWS, WINDOWS), dtype=tl.float32)
    for first in range(0, window_size, ROWS):
        u = first + tl.arange(0, ROWS)
        in_window = (u < window_size)[:, None] & exists[None, :]
        y = top[None, :] + u[:, None]
        on_map = in_window & (y >= 0) & (y < height)
        # The greatest i with round(i m / k) <= u, halves rounded up: the bin of the cell.
        bin_row = (positions * (2 * u + 1) - 1) // (2 * window_size)
        row = probabilities + (bin_row * positions).to(tl.int64)[:, None] * count + y * width
        for v in range(0, window_size):
            bin_column = (positions * (2 * v + 1) - 1) // (2 * window_size)
            x = (left + v)[None, :]
            place = row + bin_column.to(tl.int64) * count + x
            value = tl.load(place, mask=on_map & (x >= 0) & (x < width), other=0.0)
            inside = (value > threshold) & in_window
            area += inside.to(tl.int32)
            total += tl.where(inside, value, 0.0)
            x0 = tl.where(inside, tl.minimum(x0, v), x0)
            x1 = tl.where(inside, tl.maximum(x1, v + 1), x1)
            y0 = tl.where(inside, tl.minimum(y0, u[:, None]), y0)
            y1 = tl.where(inside, u[:, None] + 1, y1)
    area_of_all = tl.sum(area, axis=0)
    filled = area_of_all > 0
    box = boxes + window.to(tl.int64) * 4
    first_x, first_y = tl.where(filled, tl.min(x0, 0), 0), tl.where(filled, tl.min(y0, 0), 0)
    tl.store(box, (left + first_x).to(tl.float32), mask=exists)
    tl.store(box + 1, (top + first_y).to(tl.float32), mask=exists)
    tl.store(box + 2, (left + tl.max(x1, 0)).to(tl.float32), mask=exists)
    tl.store(box + 3, (top + tl.max(y1, 0)).to(tl.float32), mask=exists)
    tl.store(areas + window, area_of_all, mask=exists)
    tl.store(totals + window, tl.sum(total, axis=0), mask=exists)
