"""Predict the categories of grid cells, in SOLO and SOLOv2 alike.

SOLO, arXiv 1912.04488, section 2.1 of the ECCV version ("Semantic Category").

B images, C channels, L levels, S grid side (one per level), K classes.
"""

import math
from collections.abc import Callable
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from ...modeling.layers import ConvTower, TowerOptions
from ...modeling.layers.remembered import remembered
from ...ops import point_nms
from ...ops.resize import resize_bilinear

# Samples along each side of a cell in `region_grid`. The paper only says that they are dense.
_SAMPLES = 2


class CategoryBranch(nn.Module):
    """Classify every cell of each level's S x S grid.

    The features are resized to S x S first. A tower of convolutions follows, then one convolution
    that outputs the logits. All levels share the weights.

    Args:
        in_channels: channels of the features.
        channels: channels of the tower.
        num_classes: K, without background: every class has its own sigmoid.
        prior_prob: the initial probability of every class (RetinaNet's initialisation).
        align: how features are resized to the grid, a key of `GRID_ALIGN`.
        tower: the other arguments of the tower, see `ConvTower`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int,
        num_classes: int,
        prior_prob: float,
        align: str = "interpolate",
        **tower: Unpack[TowerOptions],
    ) -> None:
        super().__init__()
        self.align = GRID_ALIGN[align]
        self.tower = ConvTower(in_channels, channels, **tower)
        self.logits = nn.Conv2d(channels, num_classes, 3, padding=1)
        nn.init.normal_(self.logits.weight, std=0.01)
        assert self.logits.bias is not None
        nn.init.constant_(self.logits.bias, -math.log((1 - prior_prob) / prior_prob))

    def forward(self, levels: list[Tensor], sides: list[int]) -> list[Tensor]:
        """Return the category logits of every level's cells.

        Args:
            levels: the head's features, L x [B, C, H_l, W_l].
            sides: S of each level.

        Returns:
            L x [B, K, S_l, S_l].
        """
        return self.classify([self.align(x, (side, side)) for x, side in zip(levels, sides)])

    def classify(self, grids: list[Tensor]) -> list[Tensor]:
        """Return category logits, L x [B, K, h_l, w_l], of features [B, C, h_l, w_l] of cells."""
        return [self.logits(self.tower(grid)) for grid in grids]


def cell_scores_of(category_logits: list[Tensor]) -> Tensor:
    """Return the class probabilities of the cells of all levels, after point NMS.

    Args:
        category_logits: L x [B, K, S_l, S_l].

    Returns:
        float32 [B, C, K], where C counts the cells of all levels; within a level, row by row.
    """
    scores = [point_nms(level.float().sigmoid()).flatten(2) for level in category_logits]
    return torch.cat(scores, dim=2).transpose(1, 2)


def adaptive_pool(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the maximum of the features in every cell."""
    return F.adaptive_max_pool2d(features, size)


def region_grid(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the mean of bilinear samples that are spread evenly over every cell.

    This is RoIAlign (arXiv 1703.06870) of a single region, the whole map.
    """
    height, width = features.shape[-2:]
    whole = _region(features, height, width, features.dtype)
    return roi_align(
        features,
        [whole] * len(features),
        output_size=size,
        sampling_ratio=_SAMPLES,
        aligned=True,
    )


@remembered
def _region(height: int, width: int, dtype: torch.dtype, *, device: torch.device) -> Tensor:
    """Return the box of the whole map: x0, y0, x1, y1, [1, 4]."""
    return torch.tensor([[0, 0, width, height]], dtype=dtype, device=device)


# The ways to resize features [B, C, H, W] to a grid (S, S) that SOLO compares in section 3.3,
# "Alignment in the category branch". The published models use the first, which is bilinear.
GRID_ALIGN: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "interpolate": resize_bilinear,
    "adaptive_pool": adaptive_pool,
    "region_grid": region_grid,
}
