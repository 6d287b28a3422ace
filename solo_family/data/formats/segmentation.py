"""The usable part of an annotation's segmentation, its RLE and its box."""

import ast
import contextlib
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_util

from .coco_values import adds_up, is_drawable, is_rle

# Why a segmentation is dropped. SHORT: a polygon has too few points; FAR: they can't be drawn;
# WITHOUT: there is no segmentation; MISFIT: the RLE has another size than the image; UNFILLED: its
# runs don't add up to the image's pixels.
SHORT, FAR, WITHOUT, MISFIT, UNFILLED = "short", "far", "without", "misfit", "unfilled"


def usable_segmentation(segmentation: Any, size: tuple[float, float]) -> tuple[Any, Counter[str]]:
    """Return the part of a segmentation that can be made into a mask.

    Args:
        segmentation: polygons [x, y, x, y, ...], or RLE with `size` and `counts`.
        size: (height, width) of the image, in pixels; infinite if it is unknown.

    Returns:
        The polygons that can be drawn, or the RLE, or None; and how many polygons or masks are
        dropped, by the reason.
    """
    if not segmentation or not isinstance(segmentation, list | dict):
        return None, Counter([WITHOUT])
    if isinstance(segmentation, list):
        long = [p for p in segmentation if _is_long(p)]
        near = [p for p in long if is_drawable(p, *size)]
        reasons = {SHORT: len(segmentation) - len(long), FAR: len(long) - len(near)}
        return near or None, +Counter(reasons)
    if np.isfinite(size[0]) and list(segmentation["size"]) != list(size):
        return None, Counter([MISFIT])
    if not adds_up(segmentation):
        return None, Counter([UNFILLED])
    return segmentation, Counter()


def _is_long(polygon: Any) -> bool:
    sequence = isinstance(polygon, list | array | np.ndarray)
    return sequence and len(polygon) >= 6 and len(polygon) % 2 == 0


def usable_at_any_size(segmentation: Any) -> Any:
    """Return the usable part of a segmentation whose image has an unknown size, or None."""
    if isinstance(segmentation, dict):
        size = segmentation.get("size")
        good = is_rle(size, segmentation.get("counts")) and adds_up(segmentation)
        return segmentation if good else None
    return usable_segmentation(segmentation, (np.inf, np.inf))[0]


def as_rle(segmentation: dict[str, Any]) -> dict[str, Any]:
    """Convert the numbers of an RLE to int, in place, if they are floats or text.

    Counts that Python's `str` made of bytes, "b'...'", which no RLE begins with, become text.
    """
    counts = segmentation.get("counts")
    if isinstance(counts, str) and counts[:2] in ("b'", 'b"'):
        with contextlib.suppress(ValueError, SyntaxError):
            segmentation["counts"] = ast.literal_eval(counts).decode("ascii")
    for key in ("size", "counts"):
        values = segmentation.get(key)
        if isinstance(values, list) and not set(map(type, values)) <= {int}:
            try:
                whole = [int(float(value)) for value in values if not isinstance(value, bool)]
            except (TypeError, ValueError, OverflowError):
                continue
            if len(whole) == len(values) and whole == [float(value) for value in values]:
                segmentation[key] = whole
    return segmentation


def compressed(segmentation: Any) -> Any:
    """Return RLE in compressed form, as pycocotools accepts it, and polygons as they are."""
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], list):
        return mask_util.frPyObjects(segmentation, *segmentation["size"])
    return segmentation


def to_rle(usable: Any, size: Sequence[int]) -> dict[str, Any]:
    """Return the compressed RLE of a usable segmentation.

    Args:
        usable: polygons or RLE, from `usable_segmentation`.
        size: (height, width) of the image, in pixels.
    """
    if isinstance(usable, dict):
        return compressed(usable)
    return mask_util.merge(mask_util.frPyObjects(usable, *size))


def box_of(usable: Any) -> list[float]:
    """Return the box of a usable segmentation as [left, top, width, height]; see `corners_of`."""
    left, top, right, bottom = corners_of(usable)
    return [left, top, right - left, bottom - top]


def corners_of(usable: Any) -> list[float]:
    """Return the corners x0 y0 x1 y1 of the box around polygons' points, or around RLE's pixels.

    Points of polygons may be outside the image.
    """
    if isinstance(usable, dict):
        left, top, width, height = mask_util.toBbox(compressed(usable)).tolist()
        return [left, top, left + width, top + height]
    # Points rather than pixels, because a thin end of an outline may cover no pixel.
    points = np.concatenate([np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in usable])
    return [*points.min(0).tolist(), *points.max(0).tolist()]
