"""Decoupled SOLO's head (arXiv 1912.04488, section 4).

B images, C channels, L levels, S grid side (one per level), K classes, n cells.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...modeling import order
from ...modeling.layers import ConvTower
from ...modeling.layers.coord import coordinate_maps
from ..grid.category_branch import CategoryBranch
from ..grid.mask_decoder import GridOutputs
from .head import double, mask_predictor, resize


@dataclass(frozen=True)
class DecoupledSOLOOutputs(GridOutputs):
    """What Decoupled SOLO's head predicts; see `GridOutputs`.

    Attributes:
        axis_logits: L x [B, 2 S_l, 2 H_l, 2 W_l]: of the columns, then of the rows.
    """

    axis_logits: list[Tensor]


class DecoupledSOLOHead(nn.Module):
    """Predicts S maps for the columns and S for the rows of the grid, instead of S^2 masks.

    The mask of cell (i, j) is the product of the probabilities of column j and row i (Eq. 5).

    Args:
        category_branch: shared over the levels.
        in_channels: channels of the features.
        num_grids: S of each level.
        channels, num_convs, norm, dcn, dcn_convs: the mask towers, see `ConvTower`.
        coord_conv: whether the towers see coordinates: that of the columns x, that of the rows y.
        prior_prob: the probability that every pixel of the maps starts with.
        shared_tower: one tower, which sees x and y, for columns and rows (Light).
    """

    def __init__(
        self,
        *,
        category_branch: CategoryBranch,
        in_channels: int,
        num_grids: list[int],
        channels: int,
        num_convs: int,
        norm: str = "GN",
        coord_conv: bool = True,
        prior_prob: float = 0.01,
        dcn: str = "",
        dcn_convs: str = "all",
        shared_tower: bool = False,
    ) -> None:
        super().__init__()
        self.num_grids = num_grids
        self.coord_conv = coord_conv
        self.category_branch = category_branch
        self.towers = nn.ModuleDict(
            {
                axis: ConvTower(
                    in_channels + len(axis) * coord_conv,
                    channels,
                    num_convs,
                    norm=norm,
                    dcn=dcn,
                    dcn_convs=dcn_convs,
                )
                # Named by the coordinates that it sees.
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
        category_logits = self.category_branch(levels, [(side, side) for side in self.num_grids])
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
            outputs.append(double(tower(inputs)))
        return outputs[0], outputs[-1]

    def mask_logits(self, level: int, outputs: DecoupledSOLOOutputs, cells: Tensor) -> Tensor:
        """Return the logits of the product of column and row probabilities.

        The odds of p = sigmoid(x) sigmoid(y) are 1 / (e^-x + e^-y + e^-(x + y)).

        Args:
            level: index of the level.
            outputs: of one image.
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
        """Return probabilities [n, *size]: columns and rows are resized, then multiplied."""
        side, axis_logits = self.num_grids[level], outputs.axis_logits[level].float()
        columns, rows = cells % side, side + cells // side
        if order.waits(cells):
            # All are resized, as to ask which are needed would be a wait.
            soft = resize(axis_logits.sigmoid(), size)
            return soft.index_select(0, columns).mul_(soft.index_select(0, rows))
        return _resize_some(axis_logits, columns, size) * _resize_some(axis_logits, rows, size)

    def traceable_probabilities(
        self, outputs: DecoupledSOLOOutputs, cells: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Do the same for cells of any level, [n, *size], by steps that do not depend on which.

        All columns and rows of all levels are resized. For exported graphs.

        Args:
            outputs: of one image.
            cells: int64 [n], among the cells of all levels.
            size: of the masks.
        """
        levels = [logits.float().sigmoid() for logits in outputs.axis_logits]
        soft = torch.cat([resize(level, size) for level in levels])
        columns, rows, first = [], [], 0
        for side in self.num_grids:
            cell = torch.arange(side * side, device=cells.device)
            columns.append(first + cell % side)
            rows.append(first + side + cell // side)
            first += 2 * side
        return soft[torch.cat(columns)[cells]] * soft[torch.cat(rows)[cells]]


def _resize_some(axis_logits: Tensor, which: Tensor, size: tuple[int, int]) -> Tensor:
    """Return probabilities [n, *size] of some columns or rows, int64 [n], each resized once."""
    needed, places = which.unique(return_inverse=True)
    return resize(axis_logits[needed].sigmoid(), size)[places]
