"""Divide maps with channels last among the programs of a Triton kernel.

B images; C channels; H W of the maps.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
from torch import Tensor

# Values that one program writes.
_VALUES = 2048


class MapBlocks(NamedTuple):
    """What one program writes, and how many programs there are.

    Attributes:
        grid: programs by pixels, channels and images.
        columns: channels of a program.
        rows: pixels of a program.
    """

    grid: tuple[int, int, int]
    columns: int
    rows: int


def map_blocks(result: Tensor) -> MapBlocks:
    """Return the blocks of a result, [B, C, H, W]."""
    images, channels, height, width = result.shape
    columns = min(triton.next_power_of_2(channels), 256)
    rows = _VALUES // columns
    grid = triton.cdiv(height * width, rows), triton.cdiv(channels, columns), images
    return MapBlocks(grid, columns, rows)


def empty_map(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return an unwritten map [B, C, *size], channels last, for one made of `x`, [B, C, h, w]."""
    images, channels = x.shape[:2]
    # In this order in memory; then as [B, C, H, W].
    return x.new_empty((images, *size, channels)).permute(0, 3, 1, 2)
