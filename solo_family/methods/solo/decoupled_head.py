"""Predict categories and masks with Decoupled SOLO's head.

SOLO, arXiv 1912.04488, section 4 of the ECCV version ("Decoupled SOLO", Fig. 5).

B images, C channels, L levels, S grid side (one per level), K classes, n cells.
"""

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn

from ...modeling import order
from ...modeling.layers import ConvTower, TowerOptions
from ...modeling.layers.coord import coordinate_maps
from ...ops.resize_maps import upsample_twofold
from ...ops.take import take_rows
from ..grid.category_branch import CategoryBranch
from ..grid.level_masks import resize
from ..grid.mask_decoder import GridOutputs
from .head import mask_predictor


@dataclass(frozen=True)
class DecoupledSOLOOutputs(GridOutputs):
    """Hold the predictions of Decoupled SOLO's head; see `GridOutputs`.

    Attributes:
        axis_logits: L x [B, 2 S_l, 2 H_l, 2 W_l]: one map per column, then one per row.
    """

    axis_logits: list[Tensor]


class DecoupledSOLOHead(nn.Module):
    """Predict a map for each column and each row of the grid, 2 S maps instead of S^2 masks.

    The mask of cell (i, j) is the product of the probabilities of column j and row i (Eq. 5).

    Args:
        category_branch: the category branch, which all levels share.
        in_channels: channels of the features.
        num_grids: S of each level.
        channels: channels of the mask towers.
        coord_conv: append coordinates to the features: x for the columns, y for the rows.
        prior_prob: the initial probability of every pixel of the maps.
        shared_tower: use one tower, with both coordinates, for columns and rows (the Light head).
        tower: the other arguments of the mask towers, see `ConvTower`.
    """

    def __init__(
        self,
        *,
        category_branch: CategoryBranch,
        in_channels: int,
        num_grids: list[int],
        channels: int,
        coord_conv: bool = True,
        prior_prob: float = 0.01,
        shared_tower: bool = False,
        **tower: Unpack[TowerOptions],
    ) -> None:
        super().__init__()
        self.num_grids = num_grids
        self.coord_conv = coord_conv
        self.category_branch = category_branch
        self.towers = nn.ModuleDict(
            {
                axis: ConvTower(in_channels + len(axis) * coord_conv, channels, **tower)
                # A tower's name consists of the coordinates that it sees.
                for axis in (("xy",) if shared_tower else ("x", "y"))
            }
        )
        self.x_predictors = nn.ModuleList(
            mask_predictor(channels, side, 3, prior_prob) for side in num_grids
        )
        self.y_predictors = nn.ModuleList(
            mask_predictor(channels, side, 3, prior_prob) for side in num_grids
        )

    def forward(self, levels: list[Tensor]) -> DecoupledSOLOOutputs:
        """Run both branches on every level.

        Args:
            levels: L x [B, C, H_l, W_l], at the head's strides.
        """
        category_logits = self.category_branch(levels, self.num_grids)
        axis_logits = []
        for level, features in enumerate(levels):
            x_features, y_features = self._tower_features(features)
            columns = self.x_predictors[level](x_features)
            rows = self.y_predictors[level](y_features)
            axis_logits.append(torch.cat([columns, rows], dim=1))
        return DecoupledSOLOOutputs(category_logits, axis_logits)

    def _tower_features(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        maps = coordinate_maps(feature)
        coordinates = {"x": maps[:, :1], "y": maps[:, 1:], "xy": maps}
        outputs = []
        for axis, tower in self.towers.items():
            inputs = torch.cat([feature, coordinates[axis]], 1) if self.coord_conv else feature
            outputs.append(upsample_twofold(tower(inputs)))
        return outputs[0], outputs[-1]

    def mask_logits(self, level: int, outputs: DecoupledSOLOOutputs, cells: Tensor) -> Tensor:
        """Return the mask logits of given cells of one level.

        A mask is p = sigmoid(x) sigmoid(y), the product of a column's and a row's probabilities.
        Its odds, p / (1 - p), are 1 / (e^-x + e^-y + e^-(x + y)).

        Args:
            level: index of the level.
            outputs: the head's predictions for one image.
            cells: int64 [n], row * S + column.

        Returns:
            float32 [n, 2 H_l, 2 W_l].
        """
        side, axis_logits = self.num_grids[level], outputs.axis_logits[level]
        x = axis_logits[cells % side].float()
        y = axis_logits[side + cells // side].float()
        return -torch.logaddexp(torch.logaddexp(-x, -y), -x - y)

    def mask_probabilities(
        self, level: int, outputs: DecoupledSOLOOutputs, cells: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Return the masks of given cells of one level as probabilities; see `LevelMasks`.

        Columns and rows are resized first and multiplied after, as in the official code.
        """
        side, axis_logits = self.num_grids[level], outputs.axis_logits[level].float()
        columns, rows = cells % side, side + cells // side
        if order.waits(cells):
            # All maps are resized: selecting the needed ones would make the host wait.
            soft = resize(axis_logits.sigmoid(), size)
            return soft.index_select(0, columns).mul_(soft.index_select(0, rows))
        return _resize_some(axis_logits, columns, size) * _resize_some(axis_logits, rows, size)

    def traceable_probabilities(
        self, outputs: DecoupledSOLOOutputs, cells: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Return the masks of cells of any level; see `LevelMasks`.

        The 2 S maps of every level are resized, which are few, and those of the given cells are
        selected and multiplied afterwards.
        """
        levels = [logits.float().sigmoid() for logits in outputs.axis_logits]
        soft = torch.cat([resize(level, size) for level in levels], dim=-3)
        columns, rows, first = [], [], 0
        for side in self.num_grids:
            cell = torch.arange(side * side, device=cells.device)
            columns.append(first + cell % side)
            rows.append(first + side + cell // side)
            first += 2 * side
        columns_of, rows_of = torch.cat(columns)[cells], torch.cat(rows)[cells]
        return take_rows(soft, columns_of) * take_rows(soft, rows_of)


def _resize_some(axis_logits: Tensor, which: Tensor, size: tuple[int, int]) -> Tensor:
    """Return probabilities [n, *size] of the columns or rows `which`, int64 [n].

    Each distinct map is resized once.
    """
    needed, places = which.unique(return_inverse=True)
    return resize(axis_logits[needed].sigmoid(), size)[places]
