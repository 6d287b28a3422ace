"""Upsample masks of windows into the image on a CPU, as products with matrices of rows and columns.

N masks, m their side, H W of the image, h w of the part of it that a mask reaches.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ...ops.crops import Crop, bools_of_crops, runs_of_crops
from ...ops.run_masks import RunMasks, are_dense
from ...ops.window import Window


def paste_separably(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float
) -> tuple[Tensor | RunMasks, Tensor]:
    """Paste each mask into its box, bilinearly, and threshold the result.

    It is `paste_masks_in_image` of detectron2, up to rounding. Bilinear sampling acts on rows and
    columns separately, and windows in one row, or one column, of a map share their matrix.

    Args:
        masks: float32 [N, m, m], probabilities.
        boxes: float32 [N, 4], x0, y0, x1, y1 in pixels of the image; they may reach beyond it.
        size: (H, W).
        threshold: positive; a pixel is inside where its value is at least this.

    Returns:
        masks: bool [N, H, W], or runs; see `are_dense`.
        boxes: float32 [N, 4], tight around these, see `mask_boxes`.
    """
    crops = _pasted(masks, boxes, size, threshold)
    if are_dense(len(masks), size):
        return bools_of_crops(crops, len(masks), size)
    found = runs_of_crops(crops, size)
    return found, found.boxes


def _pasted(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float
) -> Iterator[Crop]:
    """Yield each mask in the part of the image that it reaches."""
    known: dict[tuple[float, float, int], tuple[int, Tensor]] = {}

    def samples(start: float, stop: float, side: int) -> tuple[int, Tensor]:
        key = (start, stop, side)
        if key not in known:
            known[key] = _samples(start, stop, side, masks.shape[-1])
        return known[key]

    for mask, (x0, y0, x1, y1) in zip(masks, boxes.tolist()):
        top, rows = samples(y0, y1, size[0])
        left, columns = samples(x0, x1, size[1])
        inside = (rows @ (mask @ columns.T)) >= threshold
        # A box beside the image has no rows, or no columns.
        top, left = min(top, size[0]), min(left, size[1])
        window = Window(top, left, top + len(rows), left + len(columns))
        yield Crop(window, inside.numpy())


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
    pixels = torch.arange(first, max(first, last), dtype=torch.float32, device="cpu") + 0.5
    cells = (pixels - start) / (stop - start) * m - 0.5
    distance = (cells[:, None] - torch.arange(m, device="cpu")).abs()
    return first, (1 - distance).clamp(min=0)
