"""Add coordinates to features: CoordConv (arXiv 1807.03247), as in SOLO, section 2.1."""

import torch
from torch import Tensor

from .remembered import remembered

# Height and width, in pixels of a map, that coordinates from -1 to 1 span.
Span = tuple[float, float]


def coordinate_maps(x: Tensor, span: Span | None = None) -> Tensor:
    """Return the normalised coordinates of the pixels of a feature map.

    Args:
        x: features [B, C, H, W].
        span: what -1 to 1 span, from the map's first pixel on; None for the map itself.

    Returns:
        [B, 2, H, W] in the dtype of `x`: x, then y, each from -1 to 1 with both ends on the border
        pixels' centres (-1 if there is only one pixel).
    """
    return _maps_like(x, span).expand(x.shape[0], -1, -1, -1)


def _maps_like(x: Tensor, span: Span | None) -> Tensor:
    height, width = x.shape[-2:]
    return _maps(x, height, width, *(span or (height, width)), x.dtype)


@remembered
def _maps(
    height: int, width: int, high: float, wide: float, dtype: torch.dtype, *, device: torch.device
) -> Tensor:
    """Return the coordinates, [2, H, W], that are -1 to 1 over `high` rows, `wide` columns."""
    # arange, not linspace, so that an exported graph follows the size of its input.
    xs = torch.arange(width, device=device, dtype=torch.float32) * _step(wide) - 1
    ys = torch.arange(height, device=device, dtype=torch.float32) * _step(high) - 1
    maps = torch.stack([xs.expand(height, width), ys[:, None].expand(height, width)])
    return maps.to(dtype)


def _step(length: float | Tensor) -> float | Tensor:
    """Return the distance of pixels of which `length` span -1 to 1; 2 for a single one."""
    if isinstance(length, Tensor):
        # A size of a traced graph: Python's max would choose for the traced size alone.
        return 2 / (length - 1).clamp(min=1)
    return 2 / max(length - 1, 1)


def append_coords(x: Tensor, span: Span | None = None) -> Tensor:
    """Return features [B, C + 2, H, W]: `x` followed by its x and y `coordinate_maps`."""
    return torch.cat([x, coordinate_maps(x, span)], dim=1)


def append_coords_to_levels(levels: list[Tensor]) -> list[Tensor]:
    """Append coordinates to every level of a pyramid, from -1 to 1 over each."""
    maps = [_maps_like(x, None) for x in levels]
    return [torch.cat([x, of.expand(x.shape[0], -1, -1, -1)], 1) for x, of in zip(levels, maps)]


def prepend_coords(x: Tensor) -> Tensor:
    """Return features [B, 2 + C, H, W]: the x and y coordinates of `x` followed by it."""
    return torch.cat([coordinate_maps(x), x], dim=1)
