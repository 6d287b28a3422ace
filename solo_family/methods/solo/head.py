"""Predict categories and masks with SOLO's head, on every level of the feature pyramid.

SOLO, arXiv 1912.04488, section 2.2 of the ECCV version ("Network Architecture", Fig. 3).

B images, C channels, L levels, S grid side (one per level), K classes, n cells.
"""

import math
from dataclasses import dataclass
from typing import Unpack

from torch import Tensor, nn

from ...modeling.layers import ConvTower, TowerOptions, append_coords_to_levels
from ...ops import dynamic_conv
from ...ops.resize_maps import upsample_twofold
from ..grid.category_branch import CategoryBranch
from ..grid.level_masks import all_levels, resize
from ..grid.mask_decoder import GridOutputs


@dataclass(frozen=True)
class SOLOOutputs(GridOutputs):
    """Hold the predictions of SOLO's head; see `GridOutputs`.

    Attributes:
        mask_features: L x [B, C, 2 H_l, 2 W_l], the input of the last convolution of the masks.
    """

    mask_features: list[Tensor]


class SOLOHead(nn.Module):
    """Predict a category and a mask for every cell of every level's grid.

    The mask of cell (i, j) is channel i S + j of a 1x1 convolution with S^2 outputs. The code never
    computes all of them: `mask_logits` computes only the channels of the requested cells.

    Args:
        category_branch: the category branch, which all levels share.
        in_channels: channels of the features.
        num_grids: S of each level.
        channels: channels of the mask tower.
        coord_convs: the number of convolutions of the mask tower, from the first, that see
            coordinates.
        prior_prob: the initial probability of every pixel of the masks.
        tower: the other arguments of the mask tower, see `ConvTower`.
    """

    def __init__(
        self,
        *,
        category_branch: CategoryBranch,
        in_channels: int,
        num_grids: list[int],
        channels: int,
        coord_convs: int = 1,
        prior_prob: float = 0.01,
        **tower: Unpack[TowerOptions],
    ) -> None:
        super().__init__()
        self.num_grids = num_grids
        self.coord_convs = coord_convs
        self.category_branch = category_branch
        self.mask_tower = ConvTower(
            in_channels + 2 * (coord_convs > 0), channels, coord_convs=coord_convs, **tower
        )
        self.mask_predictors = nn.ModuleList(
            mask_predictor(channels, side * side, 1, prior_prob) for side in num_grids
        )

    def forward(self, levels: list[Tensor]) -> SOLOOutputs:
        """Run both branches on every level, up to the last convolution of the masks.

        Args:
            levels: L x [B, C, H_l, W_l], at the head's strides.
        """
        category_logits = self.category_branch(levels, self.num_grids)
        if self.coord_convs:
            levels = append_coords_to_levels(levels)
        return SOLOOutputs(
            category_logits, [upsample_twofold(self.mask_tower(features)) for features in levels]
        )

    def mask_logits(self, level: int, outputs: SOLOOutputs, cells: Tensor) -> Tensor:
        """Return the mask logits of given cells of one level, at twice the level's resolution.

        Args:
            level: index of the level.
            outputs: the head's predictions for one image.
            cells: int64 [n], row * S + column.

        Returns:
            [n, 2 H_l, 2 W_l].
        """
        return self._predict(level, outputs.mask_features[level], cells)

    def _predict(self, level: int, mask_features: Tensor, cells: Tensor) -> Tensor:
        predictor = self.mask_predictors[level]
        assert isinstance(predictor, nn.Conv2d)
        assert predictor.bias is not None
        # The features decide the precision: they may be float32 while the weights are half.
        kernels = predictor.weight.flatten(1)[cells].to(mask_features.dtype)
        return dynamic_conv(kernels, mask_features) + predictor.bias[cells][..., None, None]

    def mask_probabilities(
        self, level: int, outputs: SOLOOutputs, cells: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Return the masks of given cells of one level as probabilities; see `LevelMasks`.

        They are resized after the sigmoid, as in the official code.
        """
        logits = self._predict(level, outputs.mask_features[level].float(), cells)
        # In place, because the logits are not needed again.
        return resize(logits.sigmoid_(), size).float()

    def traceable_probabilities(
        self, outputs: SOLOOutputs, cells: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Return the masks of cells of any level; see `LevelMasks`.

        Every level computes n masks: the channels of a level are few operations each.
        """
        return all_levels(self, outputs, cells, size)


def mask_predictor(channels: int, outputs: int, kernel_size: int, prior_prob: float) -> nn.Conv2d:
    """Return the last convolution of a level, whose initial output is `prior_prob` everywhere."""
    conv = nn.Conv2d(channels, outputs, kernel_size, padding=kernel_size // 2)
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, -math.log((1 - prior_prob) / prior_prob))
    return conv
