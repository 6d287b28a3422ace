"""Assignment of masks to the segments of a panoptic result, in plain Python for torch and numpy."""

from collections.abc import Iterable, Sequence
from typing import Any


def join_segments(
    masks: Iterable[tuple[float, float, float]], stuff_classes: Sequence[int]
) -> tuple[list[int], list[dict[str, Any]]]:
    """Assign a segment to every mask that is kept; masks of the same stuff class share one.

    Args:
        masks: for each mask, in order, whether it is kept, its class and its score.
        stuff_classes: the classes that are stuff; all others are things.

    Returns:
        ids: the id of each mask's segment, counted from 1; 0 for masks that are not kept.
        segments: a dict for each segment, with `id`, `category_id` (the class), `isthing`, and
            `score`, which for stuff is the maximum over its masks.
    """
    ids: list[int] = []
    segments: list[dict[str, Any]] = []
    stuff: dict[int, dict[str, Any]] = {}
    for kept, category, score in masks:
        if not kept:
            ids.append(0)
            continue
        segment = stuff.get(int(category))
        if segment is None:
            segment = {
                "id": len(segments) + 1,
                "category_id": int(category),
                "isthing": int(category) not in stuff_classes,
                "score": score,
            }
            segments.append(segment)
            if not segment["isthing"]:
                stuff[int(category)] = segment
        segment["score"] = max(segment["score"], score)
        ids.append(segment["id"])
    return ids, segments
