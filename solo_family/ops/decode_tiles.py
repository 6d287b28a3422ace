"""Choose how the decoding kernel reads its two factors, and how much one program works on.

N masks; E mask features; P pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Bytes that a thread reads at once.
VECTOR_BYTES = 16


def readable(kernels: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return kernels with contiguous features, and the rows of these to use; None for all.

    Every part of the picture reads the kernels again, so that one copy of this small factor costs
    less than reading it element by element.
    """
    if _is_vectorised(kernels, 1):
        return kernels, None if rows is None else rows.contiguous()
    return (kernels.contiguous() if rows is None else kernels.index_select(0, rows)), None


def layout_of(kernels: Tensor, features: Tensor) -> str:
    """Return the axis of vector reads of features [E, P]: "pixels", "channels", or "any"."""
    if _is_vectorised(kernels, 1):
        for axis, name in ((1, "pixels"), (0, "channels")):
            if _is_vectorised(features, axis):
                return name
    return "any"


def _is_vectorised(matrix: Tensor, axis: int) -> bool:
    """Return whether every line along an axis consists of whole, aligned vectors."""
    size = matrix.element_size()
    return (
        matrix.stride(axis) == 1
        and matrix.shape[axis] * size % VECTOR_BYTES == 0
        and matrix.stride(1 - axis) * size % VECTOR_BYTES == 0
        and matrix.data_ptr() % VECTOR_BYTES == 0
    )


class Tile(NamedTuple):
    """The work of one program.

    Attributes:
        masks: number of masks.
        words: number of words of each mask.
        features: number of features that are read at a time.
        warps: number of warps.
        stages: number of loads in flight.
    """

    masks: int
    words: int
    features: int
    warps: int
    stages: int


# The fastest tile measured on an H100, by what is multiplied: for four warps that multiply
# together, as from sm_90 on, and for warps that multiply alone, which need more registers.
_TILES = {
    "half": Tile(128, 2, 64, 4, 3),
    "bf16x6": Tile(64, 2, 32, 4, 3),
    "tf32": Tile(128, 2, 32, 8, 3),
    "tf32x3": Tile(128, 2, 16, 8, 4),
    "float32": Tile(64, 2, 32, 4, 3),
}
_TILES_OF_WARPS = _TILES | {"half": Tile(128, 2, 64, 8, 3), "bf16x6": Tile(64, 2, 16, 4, 4)}
# Where single elements are read, their addresses occupy the registers; where single numbers are
# multiplied, these do. A larger tile would spill.
_SCATTERED = Tile(64, 2, 16, 8, 1)


def tile_for(layout: str, kernels: Tensor, precision: str) -> Tile:
    """Return the tile of a launch.

    Args:
        layout: the axis along which features are read in vectors, "pixels" or "channels", or "any".
        kernels: the kernels in the dtype that is multiplied, on the device in question.
        precision: how float32 is multiplied.
    """
    if layout == "any" or not multiplies_tiles(kernels.device):
        return _SCATTERED
    tiles = _TILES if _multiplies_together(kernels.device) else _TILES_OF_WARPS
    return tiles[precision if kernels.dtype == torch.float32 else "half"]


def multiplies_tiles(device: torch.device) -> bool:
    """Return whether Triton multiplies matrices with tensor cores, which it does from sm_80 on.

    On older GPUs it multiplies single numbers; a product of float32 that consists of several of
    smaller numbers would take several times as long there.
    """
    if device.type != "cuda" or torch.version.cuda is None:
        return True
    return torch.cuda.get_device_capability(device) >= (8, 0)


def _multiplies_together(device: torch.device) -> bool:
    """Return whether four warps multiply together, which Triton's interpreter ignores."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device)[0] in (9, 10)
