"""Soft-NMS (Bodla et al., arXiv 1704.04503, Eqs. 1 to 3), on mask IoU.

Shape letters: N masks; h w the masks' size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solo_family.ops.mask_iou import mask_iou


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
    """Lower, one after another, the scores of masks that overlap the best one left.

    The best mask is taken; the scores of the others of its class are multiplied by f(IoU); again.
    The sequence is the method: it is slow by nature, and here to be compared with.

    Args:
        masks: bool [N, h, w].
        labels: int64 [N].
        scores: floating-point [N].
        kernel: "gaussian", f(x) = exp(-sigma x^2) (the paper writes 1 / sigma), or "linear",
            f(x) = 1 - x where x is at least `iou_threshold`, else 1.
        sigma: the gaussian kernel's strength.
        iou_threshold: of the linear kernel.
        pre_nms: how many of the best-scored masks take part; None for all.
        post_nms: how many masks to return at most; None for all.
        threshold: the smallest lowered score to return.
        class_agnostic: whether masks of different classes lower each other's scores too.

    Returns:
        keep: int64 [<= post_nms], indices into the inputs, the best lowered score first.
        scores: float32 [<= post_nms], the lowered scores of `keep`.

    Raises:
        ValueError: for masks that are not bool, or an unknown kernel.
    """
    if kernel not in ("gaussian", "linear"):
        raise ValueError(f"unknown soft NMS kernel {kernel!r}: choose 'gaussian' or 'linear'")
    scores, order = scores.float().sort(descending=True, stable=True)
    scores, order = scores[:pre_nms].clone(), order[:pre_nms]
    iou = mask_iou(masks[order])
    if not class_agnostic:
        iou = torch.where(labels[order][:, None] == labels[order], iou, 0)
    if kernel == "gaussian":
        factors = torch.exp(-sigma * iou**2)
    else:
        factors = torch.where(iou >= iou_threshold, 1 - iou, 1)
    left = torch.ones_like(scores, dtype=torch.bool)
    for _ in range(len(scores)):
        best = torch.where(left, scores, -1).argmax()
        left[best] = False
        scores = torch.where(left, scores * factors[best], scores)
    scores, rank = scores.sort(descending=True, stable=True)
    kept = scores >= threshold
    return order[rank[kept]][:post_nms], scores[kept][:post_nms]
