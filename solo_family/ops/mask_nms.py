"""Greedy (hard) NMS on mask IoU.

Shape letters: N masks; h w the masks' size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solo_family.ops.mask_iou import mask_iou


def mask_nms(
    masks: Tensor,
    labels: Tensor,
    scores: Tensor,
    *,
    iou_threshold: float = 0.5,
    pre_nms: int | None = 500,
    post_nms: int | None = 100,
    threshold: float = 0.05,
    class_agnostic: bool = False,
) -> tuple[Tensor, Tensor]:
    """Drop each mask that overlaps a better one, itself kept, of the same class.

    The masks may come in any order; equal scores keep the order they came in.

    Args:
        masks: bool [N, h, w].
        labels: int64 [N].
        scores: floating-point [N].
        iou_threshold: a mask is dropped where the IoU is above this.
        pre_nms: how many of the best-scored masks take part; None for all.
        post_nms: how many masks to return at most; None for all.
        threshold: the smallest score to return.
        class_agnostic: whether masks of different classes suppress each other too.

    Returns:
        keep: int64 [<= post_nms], indices into the inputs, the best score first.
        scores: float32 [<= post_nms], the scores of `keep`, unchanged.

    Raises:
        ValueError: for masks that are not bool.
    """
    scores, order = scores.float().sort(descending=True, stable=True)
    scores, order = scores[:pre_nms], order[:pre_nms]
    suppresses = mask_suppressions(masks[order], labels[order], iou_threshold, class_agnostic)
    kept = _greedy(suppresses) & (scores >= threshold)
    return order[kept][:post_nms], scores[kept][:post_nms]


def mask_suppressions(
    masks: Tensor, labels: Tensor, iou_threshold: float, class_agnostic: bool
) -> Tensor:
    """Which masks would suppress which worse ones, whether or not they are kept themselves.

    Args:
        masks: bool [N, h, w], the best first.
        labels: int64 [N].
        iou_threshold, class_agnostic: see `mask_nms`.

    Returns:
        bool [N, N], strictly upper triangular: row i would suppress column j.
    """
    suppresses = mask_iou(masks) > iou_threshold
    if not class_agnostic:
        suppresses &= labels[:, None] == labels
    return suppresses.triu(diagonal=1)


def _greedy(suppresses: Tensor) -> Tensor:
    """Which masks a greedy pass keeps, without walking through them one by one.

    A mask is kept when no kept mask suppresses it. Applied over and over, that rule settles the
    first mask, then the second, and so on: after at most N rounds, and usually a few, nothing
    changes, and the masks are those that the greedy pass keeps.

    Args:
        suppresses: bool [N, N], strictly upper triangular: row i would suppress column j.

    Returns:
        bool [N].
    """
    kept = suppresses.new_ones(len(suppresses))
    while True:
        settled = ~(suppresses & kept[:, None]).any(dim=0)
        if torch.equal(settled, kept):
            return kept
        kept = settled
