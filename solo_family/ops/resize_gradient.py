"""Return the gradient of bilinearly resized maps, on a CPU as matrix products.

torch's own kernel for contiguous maps adds one value at a time to four others. As for
`resize_rows`, resizing is a matrix for the rows and one for the columns, here transposed.

N maps; h w of a map; H W of the resized one.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .bands import Band, bands, matrix_of

# Outputs of one product: more have a wider band.
_STEP = 16


def resize_gradient(gradient: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the gradient of maps that were resized bilinearly between pixel centres.

    Args:
        gradient: of the resized maps, float32 or float64 [N, H, W].
        size: (h, w) of the maps.

    Returns:
        [N, h, w].
    """
    if gradient.device.type != "cpu":
        shapes = [len(gradient), 1, *gradient.shape[1:]], [len(gradient), 1, *size]
        upsample = torch.ops.aten.upsample_bilinear2d_backward
        return upsample(gradient[:, None], *shapes, False, None, None)[:, 0]
    count, height, width = gradient.shape
    flat = gradient.reshape(count * height, width)
    narrow = gradient.new_empty(len(flat), size[1])
    for band in _transposed(size[1], width, gradient.dtype):
        torch.mm(flat[:, band.inputs], band.weights.T, out=narrow[:, band.outputs])
    result = gradient.new_empty(count, *size)
    narrow = narrow.view(count, height, size[1])
    for band in _transposed(size[0], height, gradient.dtype):
        torch.matmul(band.weights, narrow[:, band.inputs], out=result[:, band.outputs])
    return result


@lru_cache(maxsize=64)
def _transposed(size: int, output: int, dtype: torch.dtype) -> list[Band]:
    """Return the gradient of resizing one axis from `size` to `output`, in blocks of `_STEP`."""

    def resize(units: Tensor) -> Tensor:
        return F.interpolate(units[None], size=(output, 1), mode="bilinear", align_corners=False)[0]

    return bands(matrix_of(resize, size, dtype).T, _STEP)
