"""Assign every object to the grid cells that learn it.

SOLO, arXiv 1912.04488, section 2.3 of the ECCV version ("Label Assignment").

B images, g objects of one image, G objects of all images (concatenated), L levels, S side of a
level's grid, C cells of all levels, R rows of all levels, K classes.
"""

from collections.abc import Iterable, Sequence

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...modeling.gt_masks import mask_centers
from ...ops.host_copy import to_device
from .layout import GridLayout, Size
from .targets import BatchGridTargets, Grids, GridTargets, scale_ranges_on


class GridAssigner:
    """Assign objects to grid cells.

    An object belongs to every level whose scale range contains sqrt(width x height) of its box;
    both ends of a range are inclusive. With the published ranges an object belongs to no level, to
    one or to two. On each of them, the cells that the object's centre region touches are positive.
    The centre region is a window around the mask's centre of mass, `sigma` times as large as the
    box. It is clipped to the centre cell and its eight neighbours, and to the grid. Objects whose
    mask has no pixels are ignored. If two objects share a cell, the cell learns the category of the
    later one.

    Args:
        num_grids: S of each level.
        scale_ranges: (low, high) of each level, in pixels of the network's input.
        sigma: size of the centre region, as a fraction of the box's size.
        num_classes: K.
        shared_cell: which objects of a shared cell give the cell a mask to learn: "both", or only
            the "last".
        reference: the size that S x S cells divide, see `GridLayout`.
    """

    def __init__(
        self,
        *,
        num_grids: list[int],
        scale_ranges: list[tuple[float, float]],
        sigma: float,
        num_classes: int,
        shared_cell: str = "both",
        reference: Size | None = None,
    ) -> None:
        self.layout = GridLayout(tuple(num_grids), reference)
        self.scale_ranges = scale_ranges
        self.sigma = sigma
        self.num_classes = num_classes
        self.shared_cell = shared_cell

    @classmethod
    def from_config(cls, method: CfgNode, num_classes: int) -> "GridAssigner":
        """Build the assigner from a method's keys, for instance `cfg.MODEL.SOLOV2`."""
        return cls(
            num_grids=method.NUM_GRIDS,
            scale_ranges=method.FPN_SCALE_RANGES,
            sigma=method.SIGMA,
            num_classes=num_classes,
            shared_cell=method.SHARED_CELL,
            reference=GridLayout.from_config(method).reference,
        )

    def in_scale_range(self, boxes: Tensor) -> Tensor:
        """Return which boxes are within each level's scale range.

        Args:
            boxes: float32 [G, 4], see `assign`.

        Returns:
            bool [L, G].
        """
        widths, heights = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
        scales = (widths * heights).sqrt()
        low, high = scale_ranges_on(boxes.device, _pairs(self.scale_ranges))[..., None]
        return (scales >= low) & (scales <= high)

    def __call__(
        self, boxes: Tensor, classes: Tensor, masks: Tensor, padded_size: tuple[int, int]
    ) -> list[GridTargets]:
        """Assign the objects of one image. For inspection: training calls `assign`.

        Args:
            boxes: float32 [g, 4], see `assign`.
            classes: int64 [g].
            masks: bool [g, h, w].
            padded_size: (height, width) of the network's input.

        Returns:
            One `GridTargets` per level.
        """
        batch = self.assign([boxes], [classes], [masks], padded_size)
        level_cells = batch.grids.level_cells
        levels = zip(batch.labels[0].split(level_cells), batch.positive.split(level_cells, dim=1))
        return [
            GridTargets(labels, *positive.nonzero(as_tuple=True)) for labels, positive in levels
        ]

    @torch.no_grad()
    def assign(
        self,
        boxes: Sequence[Tensor],
        classes: Sequence[Tensor],
        masks: Sequence[Tensor],
        padded_size: tuple[int, int],
    ) -> BatchGridTargets:
        """Assign the objects of a batch. No step makes the host wait for a GPU.

        Args:
            boxes: per image, float32 [g, 4]: x0, y0, x1, y1 in pixels of the network's input.
            classes: per image, int64 [g], from 0 to K - 1.
            masks: per image, bool [g, h, w], before padding.
            padded_size: (height, width) of the network's input, which the grids divide unless they
                divide a reference size. The image itself may be smaller.
        """
        all_boxes, all_classes = torch.cat(list(boxes)), torch.cat(list(classes))
        grids = Grids.make(self.layout.sides, self.layout.shapes(padded_size), all_boxes.device)
        counts = [len(part) for part in classes]
        image_of = [image for image, count in enumerate(counts) for _ in range(count)]
        (images,) = to_device([torch.tensor(image_of, dtype=torch.int64)], all_boxes.device)
        area, *centers = mask_centers(masks)
        here = self.in_scale_range(all_boxes) & (area > 0)
        inside = self._touched(grids, all_boxes, torch.stack(centers), padded_size, here)
        in_rows = inside[0].index_select(1, grids.cell_rows)
        positive = in_rows & inside[1].index_select(1, grids.cell_columns)

        order = torch.arange(1, len(images) + 1, device=images.device)[:, None]
        # The number, from 1, of the last object that the cell is assigned to; 0 means no object.
        owner = order.new_zeros((len(counts), positive.shape[1]))
        to = images[:, None].expand_as(positive)
        owner.scatter_reduce_(0, to, positive * order, "amax")
        background = all_classes.new_full((1,), self.num_classes)
        labels = torch.cat([background, all_classes])[owner]
        if self.shared_cell == "last":
            positive = positive & (owner[images] == order)
        return BatchGridTargets(grids, labels, positive, images, counts)

    def _touched(
        self,
        grids: Grids,
        boxes: Tensor,
        centers: Tensor,
        padded_size: Size,
        here: Tensor,
    ) -> Tensor:
        """Return which rows and which columns of the grids the centre regions touch.

        Args:
            grids: the grids of all levels.
            boxes: float32 [G, 4].
            centers: float32 [2, G], y and x.
            padded_size: see `assign`.
            here: bool [L, G], which objects belong to which levels. An object touches no row or
                column of the other levels.

        Returns:
            bool [2, G, R].
        """
        sizes = (boxes[:, 2:] - boxes[:, :2]).T.flip(0)
        half = 0.5 * sizes * self.sigma
        extent = torch.tensor(self.layout.extent(padded_size), dtype=torch.float32)
        (extent,) = to_device([extent], boxes.device)

        def cell(positions: Tensor) -> Tensor:
            # This is the official code's arithmetic, in float32. Truncating the rounded quotient,
            # floor division and floor(position / padded * side) disagree on the borders of cells.
            # On a GPU, division by a Python number disagrees too: torch makes it a multiplication.
            quotients = (positions / extent[:, None])[..., None]
            return torch.div(quotients, grids.shares, rounding_mode="trunc").long()

        middle = cell(centers)
        first = torch.maximum(cell(centers - half), middle - 1)
        last = torch.minimum(cell(centers + half), middle + 1).where(here.T, -1)
        # Indices beyond the grid match no row, so nothing has to be clipped to the grid.
        first, last = (ends.index_select(2, grids.row_levels) for ends in (first, last))
        return (grids.row_indices >= first) & (grids.row_indices <= last)


def _pairs(ranges: Iterable[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((low, high) for low, high in ranges)
