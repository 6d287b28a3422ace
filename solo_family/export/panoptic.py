"""Merge masks to panoptic segments in numpy, as `modeling.panoptic` does (arXiv 2107.06278, 3.4).

N masks, H W of the picture.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..segments import join_segments


def assign_pixels(
    masks: Iterable[np.ndarray], scores: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Assign every pixel to the mask with the greatest product of score and probability.

    Args:
        masks: N probability maps, float32 [H, W], in order.
        scores: float32 [N].
        size: (H, W).

    Returns:
        int64 [H, W], the index of the mask; float32 [H, W], that product; and int64 [N], the number
        of pixels whose probability in each mask is at least one half.
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
    """Merge masks to segments that do not overlap.

    Args:
        masks: N probability maps, float32 [H, W], in order.
        scores: float32 [N].
        classes: int64 [N].
        size: (H, W).
        stuff_classes: the classes that are stuff; all masks of a stuff class form one segment.
        overlap_threshold: the lowest share of a mask's pixels that must remain in its segment, 0 to
            1.

    Returns:
        See `Prediction.panoptic_seg`.
    """
    if not len(scores):
        return np.zeros(size, np.int32), []
    index, _, area = assign_pixels(masks, scores, size)
    won = np.bincount(index.ravel(), minlength=len(scores))
    kept = (won > 0) & (area > 0) & (won >= overlap_threshold * area)
    ids, segments = join_segments(zip(kept, classes.tolist(), scores.tolist()), stuff_classes)
    return np.array(ids, np.int32)[index], segments
