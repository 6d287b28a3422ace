"""Compute the sigmoid focal loss (RetinaNet, arXiv 1708.02002, Eq. 5)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def focal_loss(logits: Tensor, targets: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Return -alpha_t (1 - p_t)^gamma log(p_t) of every element.

    The gradient is computed at the same time, and is all that is kept for the backward pass.

    Args:
        logits: any shape and floating dtype; computed in float32 at least.
        targets: bool, or 0 to 1, of the same shape.
        alpha: weight of the positives; that of the negatives is 1 - alpha. Less than 0 for no
            weights.
        gamma: exponent, at least 0.

    Returns:
        float32, of the same shape.
    """
    return _FocalLoss.apply(logits, targets, alpha, gamma)


class _FocalLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            x = logits.to(torch.promote_types(logits.dtype, torch.float32))
            t = targets.to(x.dtype)
            p = x.sigmoid()
            wrong = torch.addcmul(p, t, p, value=-2).add_(t)  # 1 - p_t
            # Not 0, whose power gamma - 1 is infinite if gamma is below 1.
            wrong.clamp_(min=torch.finfo(x.dtype).tiny)
            # log(1 + exp(x)), which torch sets to x above the threshold.
            cross_entropy = torch.addcmul(F.softplus(x, threshold=40), x, t, value=-1)
            balance = t * (2 * alpha - 1) + (1 - alpha) if alpha >= 0 else torch.ones_like(t)
            weight = balance * wrong**gamma
            if ctx.needs_input_grad[0]:
                gradient = weight * (p - t)
                if gamma:
                    slope = torch.addcmul(p, p, p, value=-1).mul_(1 - 2 * t)  # that of `wrong`
                    factor = balance.mul_(wrong ** (gamma - 1)).mul_(slope)
                    gradient.addcmul_(factor, cross_entropy, value=gamma)
                ctx.dtype = logits.dtype
                ctx.save_for_backward(gradient)
            return weight.mul_(cross_entropy)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (upstream * gradient).to(ctx.dtype), None, None, None
