"""Features brought to the size of a grid (SOLO, arXiv 1912.04488, section 3.3.1, "align").

B images, C channels, S grid side.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from ...modeling.layers.remembered import remembered
from ...ops.resize import resize_bilinear

# Samples along each side of a cell in `region_grid`. The paper says only that they are dense.
_SAMPLES = 2


def interpolate(features: Tensor, side: int) -> Tensor:
    """Resizes bilinearly, as published: [B, C, H, W] to [B, C, S, S]."""
    return resize_bilinear(features, (side, side))


def adaptive_pool(features: Tensor, side: int) -> Tensor:
    """Takes the maximum of every cell: [B, C, H, W] to [B, C, S, S]."""
    return F.adaptive_max_pool2d(features, (side, side))


def region_grid(features: Tensor, side: int) -> Tensor:
    """Averages bilinear samples spread over every cell: [B, C, H, W] to [B, C, S, S].

    RoIAlign (arXiv 1703.06870) of one region, the whole map.
    """
    height, width = features.shape[-2:]
    whole = _region(features, height, width, features.dtype)
    return roi_align(
        features,
        [whole] * len(features),
        output_size=(side, side),
        sampling_ratio=_SAMPLES,
        aligned=True,
    )


@remembered
def _region(height: int, width: int, dtype: torch.dtype, *, device: torch.device) -> Tensor:
    """Returns the whole map as x0, y0, x1, y1, [1, 4]."""
    return torch.tensor([[0, 0, width, height]], dtype=dtype, device=device)


GRID_ALIGN = {
    "interpolate": interpolate,
    "adaptive_pool": adaptive_pool,
    "region_grid": region_grid,
}
