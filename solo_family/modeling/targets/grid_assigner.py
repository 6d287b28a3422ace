"""Which cells of which grid are responsible for which object (SOLO, arXiv 1912.04488, 3.3.1).

G ground-truth objects, S grid side, P pairs of a positive cell and an object, K classes.
"""

from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from torch import Tensor

from .gt_masks import mask_centers


@dataclass
class GridTargets:
    """What one image asks of one level's grid.

    Attributes:
        labels: int64 [S * S], row by row: the class of every cell, K for background.
        objects: int64 [P], the object of every pair, ascending.
        cells: int64 [P], the cell of every pair, row * S + column, ascending within an object.
    """

    labels: Tensor
    objects: Tensor
    cells: Tensor


class GridAssigner:
    """Assigns objects to grid cells.

    An object belongs to every level whose scale range holds sqrt(width x height) of its box, both
    ends inclusive: to none, one or two. There, the cells that the centre region touches are
    positive: a window of `sigma` times the box's size around the mask's centre of mass, cut to the
    centre cell and its eight neighbours, and to the grid. Masks without pixels are left out. Where
    two objects share a cell, the later one gives the category.

    Args:
        num_grids: S of each level.
        scale_ranges: (low, high) of each level, in pixels of the network's input.
        sigma: the centre region's size, as a share of the box's.
        num_classes: K.
        shared_cell: "both" objects of a shared cell make a pair with it, or only the "last".
    """

    def __init__(
        self,
        *,
        num_grids: list[int],
        scale_ranges: list[tuple[float, float]],
        sigma: float,
        num_classes: int,
        shared_cell: str = "both",
    ) -> None:
        self.num_grids = num_grids
        self.scale_ranges = scale_ranges
        self.sigma = sigma
        self.num_classes = num_classes
        self.shared_cell = shared_cell

    @classmethod
    def from_config(cls, method: CfgNode, num_classes: int) -> "GridAssigner":
        """Reads a method's keys, for instance `cfg.MODEL.SOLOV2`."""
        return cls(
            num_grids=method.NUM_GRIDS,
            scale_ranges=method.FPN_SCALE_RANGES,
            sigma=method.SIGMA,
            num_classes=num_classes,
            shared_cell=method.SHARED_CELL,
        )

    def in_scale_range(self, boxes: Tensor) -> Tensor:
        """Returns which boxes, float32 [G, 4] as below, are in each level's range: bool [L, G]."""
        widths, heights = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
        scales = (widths * heights).sqrt()
        return torch.stack([(scales >= low) & (scales <= high) for low, high in self.scale_ranges])

    @torch.no_grad()
    def __call__(
        self, boxes: Tensor, classes: Tensor, masks: Tensor, padded_size: tuple[int, int]
    ) -> list[GridTargets]:
        """Assigns the objects of one image.

        Args:
            boxes: float32 [G, 4], x0 y0 x1 y1 in pixels of the network's input.
            classes: int64 [G], 0 to K - 1.
            masks: bool [G, h, w] of the image before padding.
            padded_size: (height, width) of the network's input: the grids divide it, not the image.

        Returns:
            One `GridTargets` per level.
        """
        widths, heights = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
        area, center_y, center_x = mask_centers(masks)
        half_heights, half_widths = 0.5 * heights * self.sigma, 0.5 * widths * self.sigma
        targets = []
        for side, in_range in zip(self.num_grids, self.in_scale_range(boxes)):
            here = in_range & (area > 0)
            in_rows = _touched(center_y, half_heights, padded_size[0], side)
            in_columns = _touched(center_x, half_widths, padded_size[1], side)
            positive = here[:, None, None] & in_rows[:, :, None] & in_columns[:, None, :]
            targets.append(self._level_targets(positive.flatten(1), classes))
        return targets

    def _level_targets(self, positive: Tensor, classes: Tensor) -> GridTargets:
        """Turns positive [G, S * S] into targets."""
        order = torch.arange(1, len(classes) + 1, device=classes.device)[:, None]
        # The number, from 1, of the last object that has the cell; 0 is nobody.
        nobody = positive.new_zeros((1, positive.shape[1]), dtype=torch.int64)
        owner = torch.cat([nobody, positive * order]).amax(0)
        background = classes.new_full((1,), self.num_classes)
        labels = torch.cat([background, classes])[owner]
        if self.shared_cell == "last":
            positive = positive & (owner == order)
        objects, cells = positive.nonzero(as_tuple=True)
        return GridTargets(labels, objects, cells)


def _touched(center: Tensor, half: Tensor, padded: int, side: int) -> Tensor:
    """Returns, along one axis, which of `side` cells a centre region touches: bool [G, side]."""

    def cell(position: Tensor) -> Tensor:
        # The published arithmetic, in float32. Truncation of the rounded quotient, floor division
        # and floor(position / padded * side) differ from one another on cell borders; so does,
        # on a GPU, division by a Python number, which torch turns into a product.
        size, share = position.new_full((), padded), position.new_full((), 1 / side)
        return torch.div(position / size, share, rounding_mode="trunc").long()

    middle = cell(center)
    first = torch.maximum(cell(center - half).clamp(min=0), middle - 1)
    last = torch.minimum(cell(center + half).clamp(max=side - 1), middle + 1)
    index = torch.arange(side, device=center.device)
    return (index >= first[:, None]) & (index <= last[:, None])
