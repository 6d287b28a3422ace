"""Merge soft masks to a panoptic segmentation (MaskFormer, NeurIPS 2021, section 3.4).

N masks, H W of the requested output.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..ops.host_copy import to_device
from ..ops.masks import mask_areas
from ..ops.resize_rows import MaskRows
from ..segments import join_segments

# Chunks of masks: a slice of the masks, and their probabilities, float32 [n, H, W].
SoftMasks = Iterable[tuple[slice, Tensor]]


class PixelAssignment(NamedTuple):
    """The mask that each pixel belongs to.

    Attributes:
        mask: int64 [H, W]: index of the first mask with the greatest product of score and
            probability.
        value: float32 [H, W]: that product.
        area: int64 [N]: number of pixels whose probability in the mask is at least one half.
    """

    mask: Tensor
    value: Tensor
    area: Tensor


def assign_pixels(
    masks: SoftMasks | MaskRows, scores: Tensor, size: tuple[int, int]
) -> PixelAssignment:
    """Assign every pixel to the mask with the greatest product of score and probability.

    Masks come in chunks and only the best so far is kept, so that they are never all in memory at
    once.

    Args:
        masks: N masks in chunks, in order; or probabilities in blocks of rows.
        scores: float32 [N].
        size: (H, W).
    """
    if isinstance(masks, MaskRows):
        return _assign_rows(masks, scores, size)
    best = scores.new_full(size, -1.0)
    index = torch.zeros(size, dtype=torch.int64, device=scores.device)
    areas = [torch.zeros(0, dtype=torch.int64, device=scores.device)]
    for part, probability in masks:
        areas.append(mask_areas(probability >= 0.5))
        value, chosen = (probability * scores[part, None, None]).max(0)
        if part.start == 0:
            best, index = value, chosen
            continue
        better = value > best
        best = torch.where(better, value, best)
        index = torch.where(better, chosen + part.start, index)
    return PixelAssignment(index, best, torch.cat(areas))


def _assign_rows(masks: MaskRows, scores: Tensor, size: tuple[int, int]) -> PixelAssignment:
    best = scores.new_full(size, -1.0)
    index = torch.zeros(size, dtype=torch.int64, device=scores.device)
    areas = torch.zeros(masks.num_masks, dtype=torch.int64, device=scores.device)
    for rows, block in masks.blocks:
        areas += mask_areas(block >= 0.5)
        torch.max(block.mul_(scores[:, None, None]), dim=0, out=(best[rows], index[rows]))
    return PixelAssignment(index, best, areas)


def _count_each(index: Tensor, count: int) -> Tensor:
    """Count how often each number from 0 to `count` - 1 occurs in int64 [H, W]: int64 [count].

    Unlike `bincount`, it does not make the host wait for a GPU.
    """
    flat = index.flatten()
    # Deterministic algorithms are slower, and refuse this one.
    if flat.device.type == "cuda" and not torch.are_deterministic_algorithms_enabled():
        return flat.int().histc(bins=count, min=0, max=count).long()
    return flat.new_zeros(count).scatter_add_(0, flat, flat.new_ones(()).expand_as(flat))


class SegmentAssignment(NamedTuple):
    """One image's segments, while only the device knows them.

    Attributes:
        mask: int64 [H, W], the mask that each pixel belongs to.
        table: float64 [N, 3]: whether a mask is kept, its class, its score.
    """

    mask: Tensor
    table: Tensor


def assign_segments(
    masks: SoftMasks | MaskRows,
    scores: Tensor,
    classes: Tensor,
    size: tuple[int, int],
    overlap_threshold: float,
) -> SegmentAssignment:
    """Merge masks, none of which has been left out, to segments that do not overlap.

    A mask that loses more than a share of its pixels to others is dropped, and the pixels that it
    won belong to no segment. All of it runs on the masks' device, without making the host wait.

    Args:
        masks: see `assign_pixels`.
        scores: float32 [N].
        classes: int64 [N].
        size: (H, W).
        overlap_threshold: the lowest share of a mask's pixels (probability at least one half) that
            must remain in its segment.
    """
    pixels = assign_pixels(masks, scores, size)
    won = _count_each(pixels.mask, len(scores)) if len(scores) else pixels.area
    kept = (won > 0) & (pixels.area > 0) & (won >= overlap_threshold * pixels.area)
    table = torch.stack([kept.double(), classes.double(), scores.double()], dim=1)
    return SegmentAssignment(pixels.mask, table)


def number_segments(
    assignments: Sequence[SegmentAssignment],
    tables: Sequence[Sequence[float]],
    stuff_classes: Sequence[int],
) -> list[tuple[Tensor, list[dict[str, Any]]]]:
    """Turn the assignments of a batch into detectron2's `panoptic_seg`s.

    Args:
        assignments: per image.
        tables: their tables, on the host, flattened; see `to_host`.
        stuff_classes: the classes that are stuff; all masks of a stuff class form one segment. The
            others are things.

    Returns:
        Per image int32 [H, W] of segment ids from 1, and 0 for no segment; and for each segment its
        `id`, `category_id` (the class), `isthing`, and `score`, for stuff the greatest of its
        masks'.
    """
    masks = [zip(table[0::3], table[1::3], table[2::3]) for table in tables]
    numbered = [join_segments(each, stuff_classes) for each in masks]
    # One extra entry for no segment: pixels belong to mask 0 if there are no masks.
    ids = [torch.from_numpy(np.array([*ids, 0], np.int32)) for ids, _ in numbered]
    there = to_device(ids, assignments[0].mask.device)
    return [
        (its_ids[image.mask], segments)
        for its_ids, image, (_, segments) in zip(there, assignments, numbered)
    ]
