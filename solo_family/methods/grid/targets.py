"""Hold the training targets of the cells of SOLO's grids.

SOLO, arXiv 1912.04488, section 2.3 of the ECCV version ("Label Assignment").

B images, L levels, S grid side, C cells of all levels, R rows of all levels, G objects of all
images (concatenated), K classes, P pairs of a positive cell and an object.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.host_copy import HostCopy, to_device

_KEPT = 64  # tables of so many sizes, for each device


@dataclass
class GridTargets:
    """Hold the targets of one image for one level's grid.

    Attributes:
        labels: int64 [S * S], the class of every cell, row by row; K for background.
        objects: int64 [P], the object of every pair, ascending.
        cells: int64 [P], the cell of every pair, row * S + column, ascending within an object.
    """

    labels: Tensor
    objects: Tensor
    cells: Tensor


class ImagePairs(NamedTuple):
    """Hold the pairs of one image, level after level; within a level by object, then by cell.

    Attributes:
        objects: int64 [P], indices among the G objects of the batch.
        cells: int64 [P], indices among the C cells of all levels.
        per_level: the number of pairs of each level.
    """

    objects: Tensor
    cells: Tensor
    per_level: list[int]


class Grids(NamedTuple):
    """Describe the cells of all levels, level after level, row by row; tensors on one device.

    The R rows stand for the columns as well: a level has as many here as of whichever it has more.

    Attributes:
        shapes: rows and columns of each level.
        shares: float32 [L], 1 / S.
        row_levels: int64 [R], the level of every row.
        row_indices: int64 [R], the number of every row within its level.
        cell_levels: int64 [C], the level of every cell.
        cell_rows: int64 [C], the index of the cell's row among the R rows.
        cell_columns: int64 [C], the index of the cell's column among the R columns.
    """

    shapes: tuple[tuple[int, int], ...]
    shares: Tensor
    row_levels: Tensor
    row_indices: Tensor
    cell_levels: Tensor
    cell_rows: Tensor
    cell_columns: Tensor

    @classmethod
    @lru_cache(maxsize=_KEPT)
    def make(
        cls, sides: tuple[int, ...], shapes: tuple[tuple[int, int], ...], device: torch.device
    ) -> "Grids":
        """Make the tables on the host, and send them.

        Args:
            sides: S of each level.
            shapes: rows and columns of each level.
            device: of the tables.
        """
        levels = torch.arange(len(shapes))
        lengths = torch.tensor([max(shape) for shape in shapes])
        starts = (lengths.cumsum(0) - lengths).tolist()
        cells = torch.tensor([rows * columns for rows, columns in shapes])
        spread = list(zip(starts, shapes))
        tables = (
            torch.tensor([1 / side for side in sides], dtype=torch.float32),
            levels.repeat_interleave(lengths),
            torch.cat([torch.arange(length) for length in lengths.tolist()]),
            levels.repeat_interleave(cells),
            torch.cat([s + torch.arange(r).repeat_interleave(c) for s, (r, c) in spread]),
            torch.cat([s + torch.arange(c).repeat(r) for s, (r, c) in spread]),
        )
        return cls(shapes, *to_device(tables, device))

    @property
    def level_cells(self) -> list[int]:
        """How many cells each level has."""
        return [rows * columns for rows, columns in self.shapes]


@lru_cache(maxsize=_KEPT)
def scale_ranges_on(device: torch.device, ranges: tuple[tuple[float, float], ...]) -> Tensor:
    """Return the lowest and the highest scale of each level, float32 [2, L]."""
    return to_device([torch.tensor(ranges, dtype=torch.float32).T.contiguous()], device)[0]


class BatchGridTargets:
    """Hold the targets of a batch for all grids.

    The number of pairs is copied to the host in the background and read only by `pairs`. By then a
    GPU has usually computed it, so that the host does not wait.

    Args:
        grids: the cells of all levels.
        labels: int64 [B, C], the class of every cell; K for background.
        positive: bool [G, C], which cells belong to which object.
        images: int64 [G], the image of every object.
        counts: the number of objects of each image.
    """

    def __init__(
        self, grids: Grids, labels: Tensor, positive: Tensor, images: Tensor, counts: list[int]
    ) -> None:
        self.grids = grids
        self.labels = labels
        self.positive = positive
        self.images = images
        self.counts = counts
        by_level = positive.split(grids.level_cells, dim=1)
        self._pair_counts = HostCopy(torch.stack([level.sum(1) for level in by_level], dim=1))

    @torch.no_grad()
    def pairs(self) -> list[ImagePairs]:
        """Return the pairs of every image."""
        by_object = self._pair_counts.wait()
        by_image = [part.sum(0).tolist() for part in by_object.split(self.counts)]
        objects, cells = self._all_pairs(sum(map(sum, by_image)))
        num_levels = len(self.grids.shapes)
        keys = self.images[objects] * num_levels + self.grids.cell_levels[cells]
        order = keys.argsort(stable=True)
        totals = [sum(levels) for levels in by_image]
        parts = zip(objects[order].split(totals), cells[order].split(totals), by_image)
        return [ImagePairs(*part) for part in parts]

    def _all_pairs(self, total: int) -> tuple[Tensor, Tensor]:
        """Return what `positive.nonzero()` returns, without a wait: `total` pairs are known."""
        flat = self.positive.flatten()
        ranks = flat.cumsum(0) - 1
        # The indices of unset elements all go to one extra place at the end.
        indices = ranks.new_empty(total + 1)
        indices.scatter_(0, ranks.where(flat, total), torch.arange(len(flat), device=flat.device))
        num_cells = self.positive.shape[1]
        return indices[:total] // num_cells, indices[:total] % num_cells
