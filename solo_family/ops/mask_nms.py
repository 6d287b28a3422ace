"""Suppress masks by their IoU: greedy (hard), fast and soft NMS.

The three functions share their arguments and results.

N masks; h w the masks' size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import check_candidates, check_kernel
from .masks import mask_iou, row_blocks


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
    """Drop each mask that overlaps a better, kept mask of the same class.

    The masks may come in any order; equal scores keep the order of the inputs.

    Args:
        masks: bool [N, h, w].
        labels: int64 [N].
        scores: floating-point [N].
        iou_threshold: a mask is dropped where the IoU is above this.
        pre_nms: number of best-scored masks that take part; None for all.
        post_nms: greatest number of masks to return; None for all.
        threshold: the lowest score to return.
        class_agnostic: whether masks of different classes suppress each other, too.

    Returns:
        keep: int64 [<= post_nms], indices into the inputs, the best score first.
        scores: float32 [<= post_nms], the scores of `keep`, unchanged.

    Raises:
        ValueError: masks are not bool [N, h, w]; or masks, labels and scores differ in number or
            device, labels are not integers or scores not floating-point.
    """
    masks, labels, scores, order = _best_first(masks, labels, scores, pre_nms)
    suppresses = _suppressions(masks, labels, iou_threshold, class_agnostic)
    kept = _greedy(suppresses) & (scores >= threshold)
    return order[kept][:post_nms], scores[kept][:post_nms]


def fast_nms(
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
    """Drop each mask that overlaps any better one of its class (YOLACT, arXiv 1904.02689).

    Unlike in greedy NMS, a mask that is dropped itself still suppresses others. That is why this
    needs no loop, and drops more.

    Args:
        masks: see `mask_nms`.
        labels: see `mask_nms`.
        scores: see `mask_nms`.
        iou_threshold: see `mask_nms`.
        pre_nms: see `mask_nms`.
        post_nms: see `mask_nms`.
        threshold: see `mask_nms`.
        class_agnostic: see `mask_nms`.

    Returns:
        keep: int64 [<= post_nms], indices into the inputs, the best score first.
        scores: float32 [<= post_nms], the scores of `keep`, unchanged.

    Raises:
        ValueError: masks are not bool [N, h, w]; or masks, labels and scores differ in number or
            device, labels are not integers or scores not floating-point.
    """
    masks, labels, scores, order = _best_first(masks, labels, scores, pre_nms)
    suppresses = _suppressions(masks, labels, iou_threshold, class_agnostic)
    kept = ~suppresses.any(dim=0) & (scores >= threshold)
    return order[kept][:post_nms], scores[kept][:post_nms]


def soft_nms(
    masks: Tensor,
    labels: Tensor,
    scores: Tensor,
    *,
    kernel: str = "gaussian",
    sigma: float = 2.0,
    iou_threshold: float = 0.5,
    pre_nms: int | None = 500,
    post_nms: int | None = 100,
    threshold: float = 0.05,
    class_agnostic: bool = False,
) -> tuple[Tensor, Tensor]:
    """Lower the scores of masks that overlap better ones (Soft-NMS, arXiv 1704.04503, Eqs. 1 to 3).

    The best mask is taken, and the scores of the others of its class are multiplied by f(IoU); then
    the same is done with the rest. The method is this sequence, and so slow by nature; it serves
    for comparison.

    Args:
        masks: bool [N, h, w].
        labels: int64 [N].
        scores: floating-point [N].
        kernel: "gaussian", f(x) = exp(-sigma x^2) (the paper writes 1 / sigma), or "linear", f(x) =
            1 - x where x is at least `iou_threshold`, else 1.
        sigma: strength of the Gaussian kernel.
        iou_threshold: the IoU threshold of the linear kernel.
        pre_nms: number of best-scored masks that take part; None for all.
        post_nms: greatest number of masks to return; None for all.
        threshold: the lowest lowered score to return.
        class_agnostic: whether masks of different classes lower each other's scores, too.

    Returns:
        keep: int64 [<= post_nms], indices into the inputs, the best lowered score first.
        scores: float32 [<= post_nms], the lowered scores of `keep`.

    Raises:
        ValueError: see `mask_nms`; or for an unknown kernel.
    """
    check_kernel(kernel)
    masks, labels, scores, order = _best_first(masks, labels, scores, pre_nms)
    iou = torch.empty((len(masks), len(masks)), dtype=torch.float32, device=masks.device)
    for block in row_blocks(len(masks)):
        iou[block] = mask_iou(masks[block], masks)
        if not class_agnostic:
            iou[block].masked_fill_(labels[block, None] != labels, 0)
    left = torch.ones_like(scores, dtype=torch.bool)
    for _ in range(len(scores)):
        best = torch.where(left, scores, -1).argmax()
        left[best] = False
        overlap = iou[best]
        if kernel == "gaussian":
            factors = torch.exp(-sigma * overlap**2)
        else:
            factors = torch.where(overlap >= iou_threshold, 1 - overlap, 1)
        scores = torch.where(left, scores * factors, scores)
    scores, rank = scores.sort(descending=True, stable=True)
    kept = scores >= threshold
    return order[rank[kept]][:post_nms], scores[kept][:post_nms]


def _best_first(
    masks: Tensor, labels: Tensor, scores: Tensor, pre_nms: int | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Check candidates, and sort and cut them.

    Returns:
        masks: bool [n, h, w], the best first; equal scores keep the order of the inputs.
        labels: int64 [n].
        scores: float32 [n].
        order: int64 [n], indices into the inputs.

    Raises:
        ValueError: see `mask_nms`.
    """
    check_candidates(masks, labels, scores)
    scores, order = scores.float().sort(descending=True, stable=True)
    scores, order = scores[:pre_nms], order[:pre_nms]
    return masks[order], labels[order], scores, order


def _suppressions(
    masks: Tensor, labels: Tensor, iou_threshold: float, class_agnostic: bool
) -> Tensor:
    """Return which masks would suppress which worse ones, whether or not they are kept themselves.

    Args:
        masks: bool [N, h, w], the best first.
        labels: int64 [N].
        iou_threshold: see `mask_nms`.
        class_agnostic: see `mask_nms`.

    Returns:
        bool [N, N], strictly upper triangular: row i would suppress column j.
    """
    suppresses = torch.empty((len(masks), len(masks)), dtype=torch.bool, device=masks.device)
    for block in row_blocks(len(masks)):
        above = mask_iou(masks[block], masks) > iou_threshold
        if not class_agnostic:
            above &= labels[block, None] == labels
        torch.triu(above, diagonal=block.start + 1, out=suppresses[block])
    return suppresses


def _greedy(suppresses: Tensor) -> Tensor:
    """Return which masks a greedy pass keeps, without visiting them one by one.

    A mask is kept when no kept mask suppresses it. Applying that rule repeatedly settles the first
    mask, then the second, and so on: after at most N rounds, and usually after a few, nothing
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
