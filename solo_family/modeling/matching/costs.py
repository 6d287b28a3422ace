"""What a pair of a prediction and an object costs in the matching, all in float32.

N predictions, G objects, K classes, h w of the masks.
"""

import torch
from torch import Tensor

from ..losses.dice import pairwise_dice


@torch.no_grad()
def sparse_inst_cost(
    class_logits: Tensor,
    mask_logits: Tensor,
    classes: Tensor,
    masks: Tensor,
    *,
    alpha: float = 0.8,
    beta: float = 0.2,
) -> Tensor:
    """Returns -dice^alpha p^beta of one image (SparseInst, arXiv 2203.12827, Eq. 3).

    Args:
        class_logits: [N, K]; p is the sigmoid of the object's class.
        mask_logits: [N, h, w].
        classes: int64 [G].
        masks: [G, h, w], bool or 0 to 1.
        alpha, beta: exponents.

    Returns:
        float32 [N, G].
    """
    probability = class_logits.float().sigmoid()[:, classes]
    dice = pairwise_dice(mask_logits, masks, eps=5e-5)
    return -(dice**alpha) * probability**beta
