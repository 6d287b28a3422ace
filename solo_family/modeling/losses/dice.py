"""Dice loss, in the form of V-Net (arXiv 1606.04797) that SOLO uses (arXiv 1912.04488, Eq. 4)."""

import torch
from torch import Tensor


def dice_loss(logits: Tensor, targets: Tensor, *, eps: float = 1e-3) -> Tensor:
    """Returns 1 - 2 sum(p q) / (sum(p^2) + eps + sum(q^2) + eps) with p = sigmoid(logits).

    Args:
        logits: [N, ...], any floating dtype; computed in float32.
        targets: [N, ...], bool or 0 to 1.
        eps: added to each of the two sums.

    Returns:
        float32 [N], one per mask.
    """
    with torch.autocast(logits.device.type, enabled=False):
        p = logits.float().flatten(1).sigmoid()
        q = targets.float().flatten(1)
        overlap = (p * q).sum(1)
        return 1 - 2 * overlap / ((p * p).sum(1) + eps + (q * q).sum(1) + eps)
