"""How many cells the grids have, and how large they are.

Published, S x S cells divide the padded input, whatever its size. Ours, with a reference size: they
divide that, and a larger input has more cells of the same size in pixels.

L levels, S grid side (one per level), C cells of all levels.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...modeling.layers.remembered import remembered
from .mask_decoder import Grid

Size = tuple[int, int]


@dataclass(frozen=True)
class GridLayout:
    """The cells of all levels, for inputs of any size.

    Attributes:
        sides: S of each level.
        reference: (height, width) in pixels of the network's input that S x S cells and coordinates
            from -1 to 1 span; None for the padded input's own. A larger input has more cells, and
            coordinates beyond 1; a smaller one fewer, and coordinates that end before 1.
    """

    sides: tuple[int, ...]
    reference: Size | None = None

    @classmethod
    def from_config(cls, method: CfgNode) -> "GridLayout":
        """Read a method's NUM_GRIDS and, where it has that key, GRID_REFERENCE_SIZE."""
        reference = tuple(method.get("GRID_REFERENCE_SIZE", ())) or None
        return cls(tuple(method.NUM_GRIDS), reference)

    def shapes(self, padded_size: Size) -> tuple[Size, ...]:
        """Return the rows and columns of each level's grid; the last ones may end in the padding.

        Args:
            padded_size: (height, width) of the network's input, also of a graph that is traced.
        """
        if self.reference is None:
            return tuple((side, side) for side in self.sides)
        (height, width), (high, wide) = padded_size, self.reference
        # Rounded up. Of whole numbers alone, so that a traced graph follows the size of its input.
        return tuple(
            ((height * side + high - 1) // high, (width * side + wide - 1) // wide)
            for side in self.sides
        )

    def extent(self, padded_size: Size) -> Size:
        """Return (height, width), in pixels of the network's input, that S x S cells span."""
        return self.reference or padded_size

    def centres(self, like: Tensor, padded_size: Size, stride: int) -> Tensor:
        """Return y and x of every cell's centre in a map of some stride, float32 [C, 2].

        Args:
            like: a tensor on the device that the result is to be on.
            padded_size: (height, width) of the network's input.
            stride: of the map.
        """
        extent = tuple(side / stride for side in self.extent(padded_size))
        return _centres(like, self.shapes(padded_size), self.sides, extent)

    def span(self, stride: int) -> tuple[float, float] | None:
        """Return what the reference size is in a map of some stride; None if there is none."""
        if self.reference is None:
            return None
        return self.reference[0] / stride, self.reference[1] / stride


def make_grid(
    like: Tensor, shapes: tuple[Size, ...], level_strides: tuple[int, ...], grows: bool = False
) -> Grid:
    """Return what is known of the cells, on the device of `like`.

    Args:
        like: any tensor.
        shapes: rows and columns of each level.
        level_strides: of each level.
        grows: see `Grid`.
    """
    return Grid(_cell_strides(like, shapes, level_strides), _level_ends(like, shapes), grows)


@remembered
def _centres(shapes: Any, sides: Any, extent: Any, *, device: torch.device) -> Tensor:
    """Return y and x of the centres of cells of which `sides` span `extent`, float32 [C, 2]."""
    levels = []
    for shape, side in zip(shapes, sides):
        ys, xs = (
            (torch.arange(count, device=device, dtype=torch.float32) + 0.5) * (length / side)
            for count, length in zip(shape, extent)
        )
        rows, columns = shape
        both = ys[:, None].expand(rows, columns), xs.expand(rows, columns)
        levels.append(torch.stack(both, dim=-1).flatten(0, 1))
    return torch.cat(levels)


@remembered
def _cell_strides(shapes: Any, level_strides: Any, *, device: torch.device) -> Tensor:
    """Return the stride of every cell's level, int64 [C]."""
    counted = zip(shapes, level_strides)
    levels = [torch.full((r * c,), stride, device=device) for (r, c), stride in counted]
    return torch.cat(levels)


@remembered
def _level_ends(shapes: Any, *, device: torch.device) -> Tensor:
    """Return the number of cells of the levels up to each, int64 [L]."""
    ends = accumulate(rows * columns for rows, columns in shapes)
    return torch.stack([torch.full((), end, dtype=torch.int64, device=device) for end in ends])
