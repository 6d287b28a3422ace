"""Fast NMS (YOLACT, arXiv 1904.02689, section 3.3), on mask IoU.

Shape letters: N masks; h w the masks' size.
"""

from __future__ import annotations

from torch import Tensor

from solo_family.ops.mask_nms import mask_suppressions


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
    """Drop each mask that overlaps a better one of the same class, even one that is dropped itself.

    That is where it differs from greedy NMS, and why it needs no loop: it drops more.

    Args:
        masks, labels, scores: see `mask_nms`, as the other arguments.

    Returns:
        keep: int64 [<= post_nms], indices into the inputs, the best score first.
        scores: float32 [<= post_nms], the scores of `keep`, unchanged.

    Raises:
        ValueError: for masks that are not bool.
    """
    scores, order = scores.float().sort(descending=True, stable=True)
    scores, order = scores[:pre_nms], order[:pre_nms]
    suppresses = mask_suppressions(masks[order], labels[order], iou_threshold, class_agnostic)
    kept = ~suppresses.any(dim=0) & (scores >= threshold)
    return order[kept][:post_nms], scores[kept][:post_nms]
