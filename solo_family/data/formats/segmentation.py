"""What of an annotation's segmentation a mask can be made of, and how large that is."""

from collections import Counter
from typing import Any

import numpy as np
from pycocotools import mask as mask_util

from .coco_values import adds_up, is_drawable

# Why something is left out: polygons with too few points, or points that can't be drawn; no
# segmentation at all; RLE of another size than the image, or whose runs don't fill it.
SHORT, FAR, WITHOUT, MISFIT, UNFILLED = "short", "far", "without", "misfit", "unfilled"


def usable_segmentation(segmentation: Any, size: tuple[float, float]) -> tuple[Any, Counter[str]]:
    """Looks for what a mask can be made of.

    Args:
        segmentation: polygons [x, y, x, y, ...], or RLE with `size` and `counts`.
        size: (height, width) of the image, in pixels; infinite where it is unknown.

    Returns:
        The polygons that can be drawn, or the RLE, or None; and how many polygons, or masks, are
        left out, by the reason.
    """
    if not segmentation or not isinstance(segmentation, list | dict):
        return None, Counter([WITHOUT])
    if isinstance(segmentation, list):
        long = [p for p in segmentation if isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0]
        near = [p for p in long if is_drawable(p, *size)]
        reasons = {SHORT: len(segmentation) - len(long), FAR: len(long) - len(near)}
        return near or None, +Counter(reasons)
    if list(segmentation["size"]) != list(size):
        return None, Counter([MISFIT])
    if not adds_up(segmentation):
        return None, Counter([UNFILLED])
    return segmentation, Counter()


def compressed(segmentation: Any) -> Any:
    """Returns polygons as they are, and RLE as pycocotools takes it."""
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], list):
        return mask_util.frPyObjects(segmentation, *segmentation["size"])
    return segmentation


def measure_mask(usable: Any, size: tuple[int, int]) -> tuple[int, list[float]]:
    """Measures what `usable_segmentation` returns.

    Returns:
        The number of pixels, and the corners x0 y0 x1 y1 around the polygons' points, or the pixels
        of RLE; points may be outside of the image.
    """
    if isinstance(usable, dict):
        rle = compressed(usable)
        left, top, width, height = mask_util.toBbox(rle).tolist()
        return int(mask_util.area(rle)), [left, top, left + width, top + height]
    rle = mask_util.merge(mask_util.frPyObjects(usable, *size))
    # Not the corners of the pixels: a thin end of an outline has none.
    points = np.concatenate([np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in usable])
    return int(mask_util.area(rle)), [*points.min(0).tolist(), *points.max(0).tolist()]
