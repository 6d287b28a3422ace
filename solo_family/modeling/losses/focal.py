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
