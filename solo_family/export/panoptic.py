"""Panoptic segments in numpy; see `modeling.panoptic` (arXiv 2107.06278, section 3.4).

N masks, H W of the picture.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def assign_pixels(
    masks: Iterable[np.ndarray], scores: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Assigns every pixel to the mask with the greatest score times probability.

    Returns:
        int64 [H, W] the mask, float32 [H, W] that product, and int64 [N] the pixels whose
        probability in each mask is at least one half.
    """
    best, index = np.full(size, -1, np.float32), np.zeros(size, np.int64)
    area = np.zeros(len(scores), np.int64)
    for number, (score, mask) in enumerate(zip(scores, masks)):
        area[number] = np.count_nonzero(mask >= 0.5)
        value = score * mask
        better = value > best
        best[better], index[better] = value[better], number
    return index, best, area


def merge_panoptic(
    masks: Iterable[np.ndarray],
    scores: np.ndarray,
    classes: np.ndarray,
    size: tuple[int, int],
    *,
    stuff_classes: Sequence[int],
    overlap_threshold: float,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Merges masks to segments that do not overlap.

    Args:
        masks: N probability maps, float32 [H, W], in order.
        scores: float32 [N].
        classes: int64 [N].
        size: (H, W).
        stuff_classes: the classes that are stuff; masks of one are one segment.
        overlap_threshold: the least share of a mask's pixels that its segment must have.

    Returns:
        See `Prediction.panoptic_seg`.
    """
    segments: list[dict[str, Any]] = []
    if not len(scores):
        return np.zeros(size, np.int32), segments
    index, _, area = assign_pixels(masks, scores, size)
    won = np.bincount(index.ravel(), minlength=len(scores))
    kept = (won > 0) & (area > 0) & (won >= overlap_threshold * area)
    stuff: dict[int, dict[str, Any]] = {}
    ids = np.zeros(len(scores), np.int32)
    for number in np.flatnonzero(kept):
        category, score = int(classes[number]), float(scores[number])
        segment = stuff.get(category)
        if segment is None:
            segment = {
                "id": len(segments) + 1,
                "category_id": category,
                "isthing": category not in stuff_classes,
                "score": score,
            }
            segments.append(segment)
            if not segment["isthing"]:
                stuff[category] = segment
        segment["score"] = max(segment["score"], score)
        ids[number] = segment["id"]
    return ids[index], segments
