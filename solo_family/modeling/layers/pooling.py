"""Pool adaptively by averages, exportably for any size of the input.

B images, C channels, S bins per side.
"""

import torch
from torch import Tensor, nn

from .remembered import remembered


def adaptive_average_pool(x: Tensor, bins: int) -> Tensor:
    """Compute `adaptive_avg_pool2d`, which ONNX does not have, as two matrix products.

    Args:
        x: [B, C, H, W].
        bins: S.

    Returns:
        [B, C, S, S] in the dtype of `x`; computed in float32.
    """
    rows = _bin_weights(x, x.shape[-2], bins)
    columns = _bin_weights(x, x.shape[-1], bins)
    maps = x.float().flatten(0, 1)
    with torch.autocast(x.device.type, enabled=False):
        # Not `@`, which treats a side of 1 as a special case, so that torch.export would fix it.
        pooled = torch.bmm(rows.expand(maps.shape[0], -1, -1), maps)
        pooled = torch.bmm(pooled, columns.T.expand(maps.shape[0], -1, -1))
    return pooled.unflatten(0, x.shape[:2]).to(x.dtype)


class AdaptiveAveragePool(nn.Module):
    """`adaptive_average_pool` as a layer."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        """Pool `x`, [B, C, H, W], to [B, C, S, S]."""
        return adaptive_average_pool(x, self.bins)


@remembered
def _bin_weights(size: int, bins: int, *, device: torch.device) -> Tensor:
    """Return [S, size]: row i averages positions floor(i size / S) to ceil((i + 1) size / S).

    It is computed with tensors throughout, so that an exported graph follows the size of its input.
    """
    index = torch.arange(bins, device=device)[:, None]
    starts = index * size // bins
    # Rounded up: bins overlap where S does not divide size. Not by negative numbers, which ONNX
    # divides differently.
    ends = ((index + 1) * size + bins - 1) // bins
    position = torch.arange(size, device=device)
    inside = (position >= starts) & (position < ends)
    return inside.float() / (ends - starts)
