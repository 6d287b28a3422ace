"""From soft masks to panoptic segmentation (MaskFormer, arXiv 2107.06278, section 3.4).

N masks, H W of the image that was asked for.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...ops.mask_iou import mask_areas

# Chunks of masks: which they are, and their probabilities, float32 [n, H, W].
SoftMasks = Iterable[tuple[slice, Tensor]]


class PixelAssignment(NamedTuple):
    """Which mask each pixel belongs to.

    Attributes:
        mask: int64 [H, W]: the first with the greatest score times probability.
        value: float32 [H, W]: that product.
        area: int64 [N]: the pixels whose probability in the mask is at least one half.
    """

    mask: Tensor
    value: Tensor
    area: Tensor


def assign_pixels(masks: SoftMasks, scores: Tensor, size: tuple[int, int]) -> PixelAssignment:
    """Assigns every pixel to the mask with the greatest score times probability.

    Masks come in chunks and only the best so far is kept, so that they are never in memory
    together.

    Args:
        masks: N masks in chunks, in order.
        scores: float32 [N].
        size: (H, W).
    """
    best = scores.new_full(size, -1.0)
    index = torch.zeros(size, dtype=torch.int64, device=scores.device)
    area = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
    for part, probability in masks:
        area[part] = mask_areas(probability >= 0.5)
        value, chosen = (probability * scores[part, None, None]).max(0)
        better = value > best
        best = torch.where(better, value, best)
        index = torch.where(better, chosen + part.start, index)
    return PixelAssignment(index, best, area)


def merge_panoptic(
    masks: SoftMasks,
    scores: Tensor,
    classes: Tensor,
    size: tuple[int, int],
    *,
    stuff_classes: Sequence[int],
    overlap_threshold: float,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Merges masks, of which none has been left out, to segments that do not overlap.

    A mask that has lost more than a share of its pixels to others is dropped, and those that it has
    won belong to no segment. Masks of one stuff class are one segment.

    Args:
        masks: N masks in chunks, in order; see `SoftMasks`.
        scores: float32 [N].
        classes: int64 [N].
        size: (H, W).
        stuff_classes: the classes that are stuff; the others are things.
        overlap_threshold: the least share of a mask's pixels (probability at least one half) that
            its segment must have.

    Returns:
        detectron2's `panoptic_seg`: int32 [H, W] of segment ids from 1, and 0 for no segment; and
        for each segment its `id`, `category_id` (the class), `isthing`, and `score`, for stuff the
        greatest of its masks'.
    """
    if not len(scores):
        return torch.zeros(size, dtype=torch.int32, device=scores.device), []
    pixels = assign_pixels(masks, scores, size)
    won = pixels.mask.flatten().bincount(minlength=len(scores))
    kept = (won > 0) & (pixels.area > 0) & (won >= overlap_threshold * pixels.area)
    segments: list[dict[str, Any]] = []
    stuff: dict[int, dict[str, Any]] = {}
    ids = [0] * len(scores)
    # One transfer to the host for all masks.
    table = torch.stack([kept.double(), classes.double(), scores.double()], dim=1).tolist()
    for index, (keep, category, score) in enumerate(table):
        if not keep:
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
        ids[index] = segment["id"]
    return torch.tensor(ids, dtype=torch.int32, device=scores.device)[pixels.mask], segments
