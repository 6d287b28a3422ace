"""Upsample masks of windows into the image on a CPU, as products with matrices of rows and columns.

N masks, m their side, H W of the image, h w of the part of it that a mask reaches.
"""

import math

import numpy as np
import torch
from torch import Tensor


def paste_separably(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float
) -> tuple[Tensor, Tensor]:
    """Paste each mask into its box, bilinearly, and threshold the result.

    It is `paste_masks_in_image` of detectron2, up to rounding. Bilinear sampling acts on rows and
    columns separately, and windows in one row, or one column, of a map share their matrix.

    Args:
        masks: float32 [N, m, m], probabilities.
        boxes: float32 [N, 4], x0, y0, x1, y1 in pixels of the image; they may reach beyond it.
        size: (H, W).
        threshold: positive; a pixel is inside where its value is at least this.

    Returns:
        masks: bool [N, H, W].
        boxes: float32 [N, 4], tight around these, see `mask_boxes`.
    """
    # The system gives numpy zeros where they are written or read; torch writes all of them at once,
    # though masks cover a small part of them.
    values = np.zeros((len(masks), *size), bool)
    tight = np.zeros(boxes.shape, np.float32)
    known: dict[tuple[float, float, int], tuple[int, Tensor]] = {}

    def samples(start: float, stop: float, side: int) -> tuple[int, Tensor]:
        key = (start, stop, side)
        if key not in known:
            known[key] = _samples(start, stop, side, masks.shape[-1])
        return known[key]

    for index, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        top, rows = samples(y0, y1, size[0])
        left, columns = samples(x0, x1, size[1])
        if not (len(rows) and len(columns)):
            continue
        inside = ((rows @ (masks[index] @ columns.T)) >= threshold).numpy()
        values[index, top : top + len(rows), left : left + len(columns)] = inside
        ys, xs = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
        if len(ys):  # the box of a mask without pixels is 0
            tight[index] = (left + xs[0], top + ys[0], left + xs[-1] + 1, top + ys[-1] + 1)
    return torch.from_numpy(values), torch.from_numpy(tight)


def _samples(start: float, stop: float, side: int, m: int) -> tuple[int, Tensor]:
    """Return the first pixel that a mask reaches along an axis, and its cells' shares in each.

    Args:
        start: where the box begins.
        stop: where it ends.
        side: of the image.
        m: cells of the mask.

    Returns:
        The first pixel, and float32 [h, m]; h is 0 for a box outside the image.
    """
    first, last = max(math.floor(start) - 1, 0), min(math.ceil(stop) + 1, side)
    pixels = torch.arange(first, max(first, last), dtype=torch.float32) + 0.5
    cells = (pixels - start) / (stop - start) * m - 0.5
    distance = (cells[:, None] - torch.arange(m)).abs()
    return first, (1 - distance).clamp(min=0)
