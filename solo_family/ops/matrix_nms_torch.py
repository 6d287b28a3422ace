"""Matrix NMS in torch, class by class: masks of two classes are never compared.

Shape letters: N masks; n the best of them that take part; h w the masks' size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solo_family.ops.binary_masks import binary_masks
from solo_family.ops.decay import decay_factors
from solo_family.ops.mask_iou import mask_intersections


def matrix_nms_by_class(
    masks: Tensor,
    labels: Tensor,
    scores: Tensor,
    kernel: str,
    sigma: float,
    class_agnostic: bool,
    mask_threshold: float | None = None,
    pre_nms: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`matrix_nms_decay`, whose arguments and results these are."""
    scores, order = scores.float().sort(descending=True, stable=True)
    scores, order = scores[:pre_nms], order[:pre_nms]
    labels = torch.zeros_like(order) if class_agnostic else labels[order]
    # Within its class each mask still comes after the better ones.
    labels, by_class = labels.sort(stable=True)
    iou = _iou_within_classes(masks, order[by_class], labels, mask_threshold)
    factors = torch.empty_like(scores)
    factors[by_class] = decay_factors(iou, labels, kernel=kernel, sigma=sigma)
    decayed, rank = (scores * factors).sort(descending=True, stable=True)
    return order[rank], decayed


def _iou_within_classes(
    masks: Tensor, rows: Tensor, labels: Tensor, mask_threshold: float | None
) -> Tensor:
    """IoU of masks of one class, float32 [n, n]; of others anything in [0, 1].

    Args:
        masks: [N, h, w], see `matrix_nms`.
        rows: int64 [n], which of them, class by class.
        labels: int64 [n], ascending, of `rows`.
        mask_threshold: see `matrix_nms`.
    """
    count = len(rows)
    intersections = torch.zeros((count, count), dtype=torch.int64, device=masks.device)
    start = 0
    for size in _class_sizes(labels):
        group = slice(start, start + size)
        intersections[group, group] = mask_intersections(
            binary_masks(masks[rows[group]], mask_threshold)
        )
        start += size
    areas = intersections.diagonal()
    # An empty union has an empty intersection: 0 / 1 makes its IoU 0 rather than NaN.
    return intersections.float() / (areas[:, None] + areas - intersections).clamp(min=1)


def _class_sizes(labels: Tensor) -> list[int]:
    # Elsewhere the host would have to wait for the sizes, and one large product is soon done.
    if labels.device.type != "cpu":
        return [len(labels)]
    return labels.unique_consecutive(return_counts=True)[1].tolist()
