"""The category branch of SOLO and SOLOv2 (arXiv 1912.04488, section 3.2.1)."""

import math

from torch import Tensor, nn

from ...layers import ConvTower


class CategoryBranch(nn.Module):
    """Classifies every cell of an S x S grid: a tower of convolutions and a 3x3 classifier.

    Args:
        in_channels: channels of the grid features.
        channels, num_convs, norm, dcn, dcn_convs: see `ConvTower`.
        num_classes: K, without background (a sigmoid per class).
        prior_prob: the probability that every class starts with (RetinaNet's initialisation).
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
    ) -> None:
        super().__init__()
        self.tower = ConvTower(
            in_channels, channels, num_convs, norm=norm, dcn=dcn, dcn_convs=dcn_convs
        )
        self.logits = nn.Conv2d(channels, num_classes, 3, padding=1)
        nn.init.normal_(self.logits.weight, std=0.01)
        assert self.logits.bias is not None
        nn.init.constant_(self.logits.bias, -math.log((1 - prior_prob) / prior_prob))

    def forward(self, grid_features: Tensor) -> Tensor:
        """Maps grid features [B, C, S, S] to category logits [B, K, S, S]."""
        return self.logits(self.tower(grid_features))
