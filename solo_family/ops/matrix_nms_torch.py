"""Matrix NMS in torch, class by class: masks of two classes are never compared.

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
    """The factors of `decay_factors`, from masks.

    Args:
        masks: [N, h, w], or int32 [N, W], see `matrix_nms`.
        rows: int64 [n], which of them: class by class, and by descending score within each.
        labels: int64 [n], ascending, of `rows`.
        kernel, sigma, mask_threshold: see `matrix_nms`.

    Returns:
        float32 [n] in [0, 1].
    """
    iou = _iou_within_classes(masks, rows, labels, mask_threshold)
    return decay_factors(iou, labels, kernel=kernel, sigma=sigma)


def _iou_within_classes(
    masks: Tensor, rows: Tensor, labels: Tensor, mask_threshold: float | None
) -> Tensor:
    """IoU of masks of one class, float32 [n, n]; of others anything in [0, 1]."""
    count = len(rows)
    intersections = torch.zeros((count, count), dtype=torch.int64, device=masks.device)
    start = 0
    for size in _class_sizes(labels):
        group = slice(start, start + size)
        intersections[group, group] = mask_intersections(
            _inside(masks, rows[group], mask_threshold)
        )
        start += size
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


def _class_sizes(labels: Tensor) -> list[int]:
    # Elsewhere the host would have to wait for the sizes, and one large product is soon done.
    if labels.device.type != "cpu":
        return [len(labels)]
    return labels.unique_consecutive(return_counts=True)[1].tolist()
