"""Dice loss, in the form of V-Net (arXiv 1606.04797) and in the forms that the methods publish.

With p a predicted mask and q the true one, pixel by pixel:

- SOLO (arXiv 1912.04488, Eq. 4): 1 - 2 sum(pq) / (sum(p^2) + eps + sum(q^2) + eps), eps 0.001.
- SparseInst (arXiv 2203.12827): the same, eps 0.00005 (0.0001 for both sums together).
- MaskFormer (arXiv 2107.06278): 1 - (2 sum(pq) + 1) / (sum(p) + sum(q) + 1), that is
  squared=False, eps=0, smooth=1.
"""

import torch
from torch import Tensor


def dice_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    eps: float = 1e-3,
    smooth: float = 0.0,
    squared: bool = True,
) -> Tensor:
    """Returns one minus the dice coefficient of p = sigmoid(logits) and q = targets.

    Args:
        logits: [N, ...], any floating dtype; computed in float32.
        targets: [N, ...], bool or 0 to 1.
        eps: added to each of the two sums.
        smooth: added to the numerator and to the denominator.
        squared: sum squares in the denominator, or the values themselves.

    Returns:
        float32 [N], one per mask.
    """
    with torch.autocast(logits.device.type, enabled=False):
        p = logits.float().flatten(1).sigmoid()
        q = targets.float().flatten(1)
        overlap = (p * q).sum(1)
        sizes = _size(p, squared) + eps, _size(q, squared) + eps
        return 1 - _coefficient(overlap, *sizes, smooth)


def pairwise_dice(
    logits: Tensor,
    targets: Tensor,
    *,
    eps: float = 1e-3,
    smooth: float = 0.0,
    squared: bool = True,
) -> Tensor:
    """Returns the dice coefficient of every predicted mask with every true one.

    Args:
        logits: [N, h, w].
        targets: [G, h, w], bool or 0 to 1.
        eps, smooth, squared: as `dice_loss`, which is one minus the coefficient of one pair.

    Returns:
        float32 [N, G].
    """
    with torch.autocast(logits.device.type, enabled=False):
        p = logits.float().flatten(1).sigmoid()
        q = targets.float().flatten(1)
        overlap = p @ q.T
        sizes = _size(p, squared)[:, None] + eps, _size(q, squared) + eps
        return _coefficient(overlap, *sizes, smooth)


def _size(x: Tensor, squared: bool) -> Tensor:
    return (x * x).sum(1) if squared else x.sum(1)


def _coefficient(overlap: Tensor, p_size: Tensor, q_size: Tensor, smooth: float) -> Tensor:
    return (2 * overlap + smooth) / (p_size + q_size + smooth)
