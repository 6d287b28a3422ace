"""How many pixels an annotation's mask has, and where its outline ends."""

from typing import Any

import numpy as np
from pycocotools import mask as mask_util

from .coco_json import compressed

# Polygons further out than so many images would take all memory to draw.
_FAR = 10


def measure_mask(segmentation: Any, size: tuple[int, int]) -> tuple[int, list[float]]:
    """Measures what `usable_segmentation` returns.

    Args:
        segmentation: polygons or RLE.
        size: (height, width) of the image, in pixels.

    Returns:
        The number of pixels, and the corners x0 y0 x1 y1 around the polygons' points, or the pixels
        of RLE; they may be outside of the image.

    Raises:
        Exception: no mask can be made of it; pycocotools has no one kind for that.
    """
    if isinstance(segmentation, list):
        return _measure_polygons(segmentation, size)
    counts = segmentation["counts"]
    if isinstance(counts, list) and sum(counts) != size[0] * size[1]:
        raise ValueError(f"The counts are of {sum(counts)} pixels.")
    rle = compressed(segmentation)
    mask_util.decode(rle)  # raises where compressed counts are of more pixels
    left, top, width, height = mask_util.toBbox(rle).tolist()
    return int(mask_util.area(rle)), [left, top, left + width, top + height]


def _measure_polygons(
    polygons: list[list[float]], size: tuple[int, int]
) -> tuple[int, list[float]]:
    points = np.concatenate([np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in polygons])
    if not (np.abs(points) <= _FAR * max(size)).all():  # also where one is no number
        raise ValueError("A point is far outside of the image.")
    rle = mask_util.merge(mask_util.frPyObjects(polygons, *size))
    # Not of the pixels: a thin end of an outline has none.
    return int(mask_util.area(rle)), [*points.min(0).tolist(), *points.max(0).tolist()]
