"""SOLO's head over the feature pyramid (arXiv 1912.04488, section 2.2).

B images, C channels, L levels, S grid side (one per level), K classes, n cells.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...modeling.layers import ConvTower, append_coords_to_levels
from ...ops import dynamic_conv
from ...ops.resize import resize_bilinear
from ..grid.category_branch import CategoryBranch
from ..grid.mask_decoder import GridOutputs


@dataclass(frozen=True)
class SOLOOutputs(GridOutputs):
    """What SOLO's head predicts; see `GridOutputs`.

    Attributes:
        mask_features: L x [B, C, 2 H_l, 2 W_l], to which a 1x1 convolution is left to do.
    """

    mask_features: list[Tensor]


class SOLOHead(nn.Module):
    """Predicts a category and a mask for every cell of every level's grid.

    The mask of cell (i, j) is channel i S + j of a 1x1 convolution with S^2 outputs. It is never
    run whole: `mask_logits` gives the masks of the cells that are asked for.

    Args:
        category_branch: shared over the levels.
        in_channels: channels of the features.
        num_grids: S of each level.
        channels, num_convs, norm, dcn, dcn_convs: the mask tower, see `ConvTower`.
        coord_conv: whether the mask tower sees coordinates.
        prior_prob: the probability that every pixel starts with.
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
    ) -> None:
        super().__init__()
        self.num_grids = num_grids
        self.coord_conv = coord_conv
        self.category_branch = category_branch
        self.mask_tower = ConvTower(
            in_channels + 2 * coord_conv,
            channels,
            num_convs,
            norm=norm,
            dcn=dcn,
            dcn_convs=dcn_convs,
        )
        self.mask_predictors = nn.ModuleList(
            mask_predictor(channels, side * side, 1, prior_prob) for side in num_grids
        )

    def forward(self, levels: list[Tensor]) -> SOLOOutputs:
        """Run both branches on every level, but for the masks themselves.

        Args:
            levels: L x [B, C, H_l, W_l], at the head's strides.
        """
        category_logits = self.category_branch(levels, [(side, side) for side in self.num_grids])
        if self.coord_conv:
            levels = append_coords_to_levels(levels)
        return SOLOOutputs(
            category_logits, [double(self.mask_tower(features)) for features in levels]
        )

    def mask_logits(self, level: int, outputs: SOLOOutputs, cells: Tensor) -> Tensor:
        """Return the masks of some cells of one image's level, at twice the head's resolution.

        Args:
            level: index of the level.
            outputs: of the image.
            cells: int64 [n], row * S + column.

        Returns:
            [n, 2 H_l, 2 W_l].
        """
        return self._predict(level, outputs.mask_features[level], cells)

    def _predict(self, level: int, mask_features: Tensor, cells: Tensor) -> Tensor:
        predictor = self.mask_predictors[level]
        assert isinstance(predictor, nn.Conv2d)
        assert predictor.bias is not None
        # Of the features' precision: they are float32 where weights are of half.
        kernels = predictor.weight.flatten(1)[cells].to(mask_features.dtype)
        return dynamic_conv(kernels, mask_features) + predictor.bias[cells][:, None, None]

    def mask_probabilities(
        self, level: int, outputs: SOLOOutputs, cells: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Return the same as probabilities [n, *size], resized after the sigmoid, as published."""
        logits = self._predict(level, outputs.mask_features[level].float(), cells)
        # In place: the logits are not needed again.
        return resize(logits.sigmoid_(), size)

    def traceable_probabilities(
        self, outputs: SOLOOutputs, cells: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Do the same for cells of any level, [n, *size], by steps that do not depend on which.

        Every level gives n masks, of which those of its own cells are taken. For exported graphs.

        Args:
            outputs: of one image.
            cells: int64 [n], among the cells of all levels.
            size: of the masks.
        """
        total, first = cells.new_zeros((), dtype=torch.float32), 0
        for level, side in enumerate(self.num_grids):
            here = (cells >= first) & (cells < first + side * side)
            inside = (cells - first).clamp(0, side * side - 1)
            probabilities = self.mask_probabilities(level, outputs, inside, size)
            total = torch.where(here[:, None, None], probabilities, total)
            first += side * side
        return total


def mask_predictor(channels: int, outputs: int, kernel_size: int, prior_prob: float) -> nn.Conv2d:
    """Return a level's last convolution, whose masks all start at one probability."""
    conv = nn.Conv2d(channels, outputs, kernel_size, padding=kernel_size // 2)
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, -math.log((1 - prior_prob) / prior_prob))
    return conv


def double(features: Tensor) -> Tensor:
    """Resize [B, C, H, W] to [B, C, 2 H, 2 W], bilinearly."""
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize [n, h, w] to [n, *size], bilinearly."""
    return resize_bilinear(maps[None], size)[0]
