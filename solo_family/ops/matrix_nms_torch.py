"""Matrix NMS in torch.

Shape letters: N masks; n the best of them that take part; h w the masks' size; W words of a packed
mask.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solo_family.ops.binary_masks import binary_masks, is_packed
from solo_family.ops.decay import decay_factors
from solo_family.ops.mask_iou import mask_intersections
from solo_family.ops.packed_masks import unpack_bits

# Soft masks that are thresholded at a time.
_CHUNK_MASKS = 16


def decay_by_class(
    masks: Tensor,
    rows: Tensor,
    labels: Tensor,
    kernel: str,
    sigma: float,
    mask_threshold: float | None,
) -> Tensor:
    """The factors of `decay_factors`, from masks, on a CPU: elsewhere the host would have to wait.

    Args:
        masks: [N, h, w], or int32 [N, W], see `matrix_nms`.
        rows: int64 [n], which of them: class by class, and by descending score within each.
        labels: int64 [n], ascending, of `rows`.
        kernel, sigma, mask_threshold: see `matrix_nms`.

    Returns:
        float32 [n] in [0, 1].
    """
    count = len(rows)
    intersections = torch.zeros((count, count), dtype=torch.int64, device=masks.device)
    start = 0
    for size in labels.unique_consecutive(return_counts=True)[1].tolist():
        group = slice(start, start + size)
        intersections[group, group] = mask_intersections(
            _inside(masks, rows[group], mask_threshold)
        )
        start += size
    return decay_factors(_iou(intersections), labels, kernel=kernel, sigma=sigma)


def decay_all_pairs(
    masks: Tensor,
    rows: Tensor,
    labels: Tensor,
    kernel: str,
    sigma: float,
    mask_threshold: float | None,
) -> Tensor:
    """The same in a single product, of masks by descending score, whatever their classes.

    Args:
        rows: int64 [n], which of the masks, by descending score.
        labels: int64 [n], of `rows`.
        masks, and the others: see `decay_by_class`.

    Returns:
        float32 [n] in [0, 1].
    """
    intersections = mask_intersections(_inside(masks, rows, mask_threshold))
    return decay_factors(_iou(intersections), labels, kernel=kernel, sigma=sigma)


def _iou(intersections: Tensor) -> Tensor:
    """IoU from intersections, int64 [n, n], of masks of one class: float32 [n, n] in [0, 1]."""
    areas = intersections.diagonal()
    # An empty union has an empty intersection: 0 / 1 makes its IoU 0 rather than NaN.
    return intersections.float() / (areas[:, None] + areas - intersections).clamp(min=1)


def _inside(masks: Tensor, rows: Tensor, mask_threshold: float | None) -> Tensor:
    """Some masks as bool, [n, h, w] or, of packed ones, [n, 32 W]."""
    if is_packed(masks):
        return unpack_bits(masks[rows])
    if masks.dtype == torch.bool:
        return masks[rows]
    # A few at a time: the chosen rows of soft masks are a copy of four bytes for each pixel.
    parts = [binary_masks(masks[some], mask_threshold) for some in rows.split(_CHUNK_MASKS)]
    return torch.cat(parts)
