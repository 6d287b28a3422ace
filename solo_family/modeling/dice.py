"""Compute the dice loss, as in V-Net (arXiv 1606.04797) and in the forms that the methods publish.

With p a predicted mask and q the true one, pixel by pixel:

- SOLO (arXiv 1912.04488, Eq. 4): 1 - 2 sum(pq) / (sum(p^2) + eps + sum(q^2) + eps), eps 0.001.
- SparseInst (arXiv 2203.12827): the same, eps 0.00005 (0.0001 for both sums together).
- MaskFormer (arXiv 2107.06278): 1 - (2 sum(pq) + 1) / (sum(p) + sum(q) + 1), that is
  squared=False, eps=0, smooth=1.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def dice_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    eps: float = 1e-3,
    smooth: float = 0.0,
    squared: bool = True,
) -> Tensor:
    """Return one minus the dice coefficient of p = sigmoid(logits) and q = targets.

    For the backward pass only logits and targets are kept, in their own dtypes.

    Args:
        logits: [N, ...], any floating dtype; computed in float32 at least.
        targets: [N, ...], bool or 0 to 1.
        eps: added to each of the two sums.
        smooth: added to the numerator and to the denominator.
        squared: sum squares in the denominator instead of the values themselves.

    Returns:
        float32 [N], one per mask.
    """
    return _DiceLoss.apply(logits, targets, eps, smooth, squared)


class _DiceLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, eps: float, smooth: float, squared: bool
    ) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            p, q = _probabilities(logits), targets.flatten(1)
            numerator = 2 * (p * q).sum(1) + smooth
            q_size = _size(q.to(p.dtype), squared)
            denominator = (_size(p, squared) + eps) + (q_size + eps) + smooth
            coefficient = numerator / denominator
        ctx.squared = squared
        ctx.save_for_backward(logits, targets, coefficient, denominator)
        return 1 - coefficient

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits, targets, coefficient, denominator = ctx.saved_tensors
        with torch.autocast(logits.device.type, enabled=False):
            p, q = _probabilities(logits), targets.flatten(1)
            # The derivative of the loss with respect to p is (coefficient dS/dp - 2 q) /
            # denominator, where the derivative of the size S is 2 p, or 1 if values are not
            # squared.
            share = (upstream / denominator)[:, None]
            gradient = share * coefficient[:, None]
            gradient = p * (2 * gradient) if ctx.squared else gradient.expand_as(p).clone()
            gradient -= (2 * share) * q
            gradient *= torch.addcmul(p, p, p, value=-1)
        return gradient.view_as(logits).to(logits.dtype), None, None, None, None


def _probabilities(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(1).sigmoid()


def _size(x: Tensor, squared: bool) -> Tensor:
    return (x * x).sum(-1) if squared else x.sum(-1)
