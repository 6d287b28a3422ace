"""Sigmoid focal loss (RetinaNet, arXiv 1708.02002, Eq. 5)."""

import torch
from fvcore.nn import sigmoid_focal_loss
from torch import Tensor


def focal_loss(logits: Tensor, targets: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Returns -alpha_t (1 - p_t)^gamma log(p_t) of every element.

    Args:
        logits: any shape and floating dtype; computed in float32.
        targets: 0 or 1, of the same shape.
        alpha: weight of the positives; the negatives' is 1 - alpha.
        gamma: exponent.

    Returns:
        float32, of the same shape.
    """
    with torch.autocast(logits.device.type, enabled=False):
        return sigmoid_focal_loss(logits.float(), targets.float(), alpha=alpha, gamma=gamma)


def pairwise_focal(logits: Tensor, targets: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Returns the mean focal loss of every predicted mask with every true one.

    Args:
        logits: [N, h, w], any floating dtype; computed in float32.
        targets: [G, h, w], bool or 0 to 1.
        alpha, gamma: as `focal_loss`, whose mean over pixels this is for each pair.

    Returns:
        float32 [N, G].
    """
    with torch.autocast(logits.device.type, enabled=False):
        x, q = logits.float().flatten(1), targets.float().flatten(1)
        # The loss is linear in the target: that of a 1 where it is 1, that of a 0 elsewhere.
        if_one = sigmoid_focal_loss(x, torch.ones_like(x), alpha=alpha, gamma=gamma)
        if_zero = sigmoid_focal_loss(x, torch.zeros_like(x), alpha=alpha, gamma=gamma)
        return (if_one @ q.T + if_zero @ (1 - q).T) / x.shape[1]
