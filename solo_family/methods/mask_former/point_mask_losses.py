"""Compute focal and dice loss of masks at points (Mask2Former, arXiv 2112.01527, section 3.3).

L losses, P pairs of a predicted mask and an object, G objects, n pairs of a part, h w of the
predicted masks, H W of the true ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from detectron2.projects.point_rend.point_features import (
    get_uncertain_point_coords_with_randomness,
    point_sample,
)
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...modeling.dice import dice_loss
from ...modeling.focal import focal_loss

# Maps predicted masks [n, h, w] and true ones [n, ...] to their losses, [L, n]. The losses of a
# mask depend on no other mask.
MaskLosses = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class PointSampler:
    """Sample points that represent all pixels of a mask (PointRend, arXiv 1912.08193, 3.1).

    Attributes:
        num_points: number of points of every mask.
        oversample_ratio: the number of random points drawn, as a multiple of `num_points`.
        importance_ratio: the share of the points that are the most uncertain ones of those; the
            others are random.
    """

    num_points: int
    oversample_ratio: float
    importance_ratio: float

    def __call__(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and targets at the points, float32 [P, points] each.

        Args:
            logits: [P, h, w].
            masks: bool [P, H, W].
        """
        logits, targets = logits[:, None].float(), masks[:, None].float()
        with torch.no_grad():
            points = get_uncertain_point_coords_with_randomness(
                logits,
                lambda sampled: -sampled.abs(),
                self.num_points,
                self.oversample_ratio,
                self.importance_ratio,
            )
            targets = point_sample(targets, points, align_corners=False)[:, 0]
        return point_sample(logits, points, align_corners=False)[:, 0], targets


def point_mask_losses(
    points: PointSampler, logits: Tensor, masks: Tensor, objects: Tensor, size: int
) -> Tensor:
    """Return the focal loss (mean over points) and the dice loss of every pair.

    Args:
        points: samples the points of every pair.
        logits: [P, h, w], any floating dtype.
        masks: bool [G, H, W].
        objects: int64 [P], the object of each pair.
        size: the size of a part, in pairs: only its true masks are in memory at a time.

    Returns:
        float32 [2, P].
    """
    return in_small_parts(partial(_losses_at, points, masks), logits, objects, size)


def _losses_at(points: PointSampler, masks: Tensor, logits: Tensor, objects: Tensor) -> Tensor:
    """Return focal and dice loss at points of every mask, [2, n]."""
    sampled, targets = points(logits, masks[objects])
    focal = focal_loss(sampled, targets, alpha=0.25, gamma=2.0).flatten(1).mean(1)
    dice = dice_loss(sampled, targets, eps=0.0, smooth=1.0, squared=False)
    return torch.stack([focal, dice])


def in_small_parts(losses: MaskLosses, logits: Tensor, targets: Tensor, size: int) -> Tensor:
    """Return `losses(logits, targets)`, computing its gradient at the same time, part by part.

    What a part needs, for instance its masks at full resolution, is freed before the next part
    begins; the gradient, at the resolution of the logits, is kept.

    Args:
        losses: see `MaskLosses`; differentiable with respect to the logits.
        logits: [P, h, w], any floating dtype; `losses` is given float32.
        targets: [P, ...].
        size: the size of a part, in masks.

    Returns:
        [L, P].
    """
    return _InSmallParts.apply(losses, logits, targets, size)


class _InSmallParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, losses: MaskLosses, logits: Tensor, targets: Tensor, size: int) -> Tensor:
        values, gradients = [], []
        for part, true in zip(logits.split(size), targets.split(size)):
            # In half precision an unscaled gradient would vanish.
            part = part.detach().float().requires_grad_()
            with torch.enable_grad():
                value = losses(part, true)
                rows = value.sum(1)
                # Each loss has its own gradient, because only the backward pass knows their
                # weights.
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
