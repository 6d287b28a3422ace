"""The category branch of SOLO and SOLOv2 (arXiv 1912.04488, section 3.2.1).

B images, C channels, S grid side, K classes.
"""

import math

from torch import Tensor, nn

from ...modeling.layers import ConvTower
from .grid_align import GRID_ALIGN


class CategoryBranch(nn.Module):
    """Classifies every cell of an S x S grid: a tower of convolutions and a 3x3 classifier.

    Features are brought to the grid's size before the tower.

    Args:
        in_channels: channels of the features.
        channels, num_convs, norm, dcn, dcn_convs: see `ConvTower`.
        num_classes: K, without background (a sigmoid per class).
        prior_prob: the probability that every class starts with (RetinaNet's initialisation).
        align: how features come to the grid's size, a name of `GRID_ALIGN`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int,
        num_convs: int,
        num_classes: int,
        norm: str,
        prior_prob: float,
        dcn: str = "",
        dcn_convs: str = "all",
        align: str = "interpolate",
    ) -> None:
        super().__init__()
        self.align = GRID_ALIGN[align]
        self.tower = ConvTower(
            in_channels, channels, num_convs, norm=norm, dcn=dcn, dcn_convs=dcn_convs
        )
        self.logits = nn.Conv2d(channels, num_classes, 3, padding=1)
        nn.init.normal_(self.logits.weight, std=0.01)
        assert self.logits.bias is not None
        nn.init.constant_(self.logits.bias, -math.log((1 - prior_prob) / prior_prob))

    def forward(self, features: Tensor, side: int) -> Tensor:
        """Maps features [B, C, H, W] to category logits [B, K, S, S] of a grid of side S."""
        return self.logits(self.tower(self.align(features, side)))
