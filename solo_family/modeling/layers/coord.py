"""Add coordinates to features: CoordConv (arXiv 1807.03247), as in SOLO, section 2.1."""

import torch
from torch import Tensor

from .remembered import remembered


def coordinate_maps(x: Tensor) -> Tensor:
    """Return the normalised coordinates of the pixels of a feature map.

    Args:
        x: features [B, C, H, W].

    Returns:
        [B, 2, H, W] in the dtype of `x`: x, then y, each from -1 to 1 with both ends on the border
        pixels' centres (-1 if there is only one pixel).
    """
    height, width = x.shape[-2:]
    return _maps(x, height, width, x.dtype).expand(x.shape[0], -1, -1, -1)


@remembered
def _maps(height: int, width: int, dtype: torch.dtype, *, device: torch.device) -> Tensor:
    """Return the coordinates, [2, H, W]."""
    # arange, not linspace, so that an exported graph follows the size of its input.
    xs = torch.arange(width, device=device, dtype=torch.float32) * (2 / max(width - 1, 1)) - 1
    ys = torch.arange(height, device=device, dtype=torch.float32) * (2 / max(height - 1, 1)) - 1
    maps = torch.stack([xs.expand(height, width), ys[:, None].expand(height, width)])
    return maps.to(dtype)


def append_coords(x: Tensor) -> Tensor:
    """Return features [B, C + 2, H, W]: `x` followed by its x and y coordinates."""
    return torch.cat([x, coordinate_maps(x)], dim=1)


def append_coords_to_levels(levels: list[Tensor]) -> list[Tensor]:
    """Append coordinates to every level of a pyramid; see `append_coords`."""
    maps = [_maps(x, x.shape[-2], x.shape[-1], x.dtype) for x in levels]
    return [torch.cat([x, of.expand(len(x), -1, -1, -1)], 1) for x, of in zip(levels, maps)]


def prepend_coords(x: Tensor) -> Tensor:
    """Return features [B, 2 + C, H, W]: the x and y coordinates of `x` followed by it."""
    return torch.cat([coordinate_maps(x), x], dim=1)
