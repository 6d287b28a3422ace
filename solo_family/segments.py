"""Which masks make which segment of a panoptic result; plain Python, for torch and for numpy."""

from collections.abc import Iterable, Sequence
from typing import Any


def join_segments(
    masks: Iterable[tuple[float, float, float]], stuff_classes: Sequence[int]
) -> tuple[list[int], list[dict[str, Any]]]:
    """Give every mask that is kept a segment; masks of one stuff class share theirs.

    Args:
        masks: of each in order, whether it is kept, its class and its score.
        stuff_classes: the classes that are stuff; the others are things.

    Returns:
        ids: of each mask's segment, from 1; 0 for none.
        segments: of each its `id`, `category_id` (the class), `isthing`, and `score`, for stuff
            the greatest of its masks'.
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
