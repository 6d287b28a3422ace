"""The category branch of SOLO and SOLOv2 (arXiv 1912.04488, section 2.1).

B images, C channels, L levels, S grid side (one per level), K classes.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from ...modeling.layers import ConvTower
from ...modeling.layers.remembered import remembered
from ...ops import point_nms
from ...ops.resize import resize_bilinear

# Samples along each side of a cell in `region_grid`. The paper says only that they are dense.
_SAMPLES = 2


class CategoryBranch(nn.Module):
    """Classifies every cell of each level's S x S grid: a tower of convolutions, then one more.

    Features are brought to the grid's size before the tower. The weights are shared over the
    levels.

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

    def forward(self, levels: list[Tensor], shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Map features, L x [B, C, H_l, W_l], to category logits, L x [B, K, S_l, S_l].

        Args:
            levels: of the head.
            shapes: rows and columns of each level's grid, S and S if it does not follow the image.
        """
        grids = [self.align(features, shape) for features, shape in zip(levels, shapes)]
        return [self.logits(self.tower(grid)) for grid in grids]


def cell_scores_of(category_logits: list[Tensor]) -> Tensor:
    """Return the probabilities of all levels' cells after point NMS.

    Args:
        category_logits: L x [B, K, S_l, S_l].

    Returns:
        float32 [B, C, K], C cells: each level's row by row.
    """
    scores = [point_nms(level.float().sigmoid()).flatten(2) for level in category_logits]
    return torch.cat(scores, dim=2).transpose(1, 2)


def adaptive_pool(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Take the maximum of every cell."""
    return F.adaptive_max_pool2d(features, size)


def region_grid(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Average bilinear samples spread over every cell.

    RoIAlign (arXiv 1703.06870) of one region, the whole map.
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
    """Return the whole map as x0, y0, x1, y1, [1, 4]."""
    return torch.tensor([[0, 0, width, height]], dtype=dtype, device=device)


# How features come to the size of a grid ("align", section 3.3): functions of [B, C, H, W] and
# (S, S). The first, bilinear, is published.
GRID_ALIGN: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "interpolate": resize_bilinear,
    "adaptive_pool": adaptive_pool,
    "region_grid": region_grid,
}
