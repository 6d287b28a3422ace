"""Losses of many masks of which one part at a time is in memory, and nothing is computed twice.

L losses, P masks, h w of the predicted masks.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Maps predicted masks [n, h, w] and true ones [n, ...] to their losses, [L, n]. The losses of a
# mask depend on no other mask.
MaskLosses = Callable[[Tensor, Tensor], Tensor]


def in_small_parts(losses: MaskLosses, logits: Tensor, targets: Tensor, size: int) -> Tensor:
    """Returns `losses(logits, targets)`, whose gradient is computed along with it, part by part.

    What a part needs, for instance its masks at full resolution, is freed before the next one
    begins; the gradient, at the resolution of the logits, is kept.

    Args:
        losses: see `MaskLosses`; differentiable with respect to the logits.
        logits: [P, h, w], any floating dtype; `losses` is given float32.
        targets: [P, ...].
        size: of a part, in masks.

    Returns:
        [L, P].
    """
    return _InSmallParts.apply(losses, logits, targets, size)


class _InSmallParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, losses: MaskLosses, logits: Tensor, targets: Tensor, size: int) -> Tensor:
        values, gradients = [], []
        for part, true in zip(logits.split(size), targets.split(size)):
            # In half precision a gradient that is not scaled yet would vanish.
            part = part.detach().float().requires_grad_()
            with torch.enable_grad():
                value = losses(part, true)
                rows = value.sum(1)
                # Each loss by itself: how they are weighted is known in the backward pass only.
                parts = [torch.autograd.grad(row, part, retain_graph=True)[0] for row in rows]
            values.append(value.detach())
            gradients.append(torch.stack(parts))
        ctx.dtype = logits.dtype
        ctx.save_for_backward(torch.cat(gradients, dim=1))
        return torch.cat(values, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, Tensor, None, None]:
        (gradients,) = ctx.saved_tensors
        weighted = upstream[..., None, None] * gradients
        return None, weighted.sum(0).to(ctx.dtype), None, None
