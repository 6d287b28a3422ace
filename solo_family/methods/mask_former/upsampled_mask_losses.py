"""Compute focal and dice loss at the targets' resolution (MaskFormer, section 4.1).

P pairs of a predicted mask and an object, G objects, n pairs of a part, h w of the predicted masks,
H W of the true ones.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...ops.resize_gradient import resize_gradient

# Of the focal loss (arXiv 1708.02002), whose gamma is 2.
_ALPHA = 0.25
# Beyond this, log(1 + exp(x)) equals x within the precision of any dtype.
_LINEAR = 40


def upsampled_mask_losses(logits: Tensor, masks: Tensor, objects: Tensor, size: int) -> Tensor:
    """Return the focal loss (mean over pixels) and the dice loss of every pair.

    Logits are upsampled bilinearly. The gradient is computed along with the losses, for a part of
    the pairs at a time, so that what is kept has the resolution of the logits.

    Args:
        logits: [P, h, w], any floating dtype; computed in float32 at least.
        masks: bool [G, H, W].
        objects: int64 [P], the object of each pair.
        size: the size of a part, in pairs.

    Returns:
        float32 [2, P].
    """
    return _UpsampledMaskLosses.apply(logits, masks, objects, size)


class _UpsampledMaskLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, masks: Tensor, objects: Tensor, size: int) -> Tensor:
        # In half precision an unscaled gradient would vanish.
        dtype = torch.promote_types(logits.dtype, torch.float32)
        learning = ctx.needs_input_grad[0]
        losses = logits.new_empty((2, len(logits)), dtype=dtype)
        before = logits.shape[1], logits.shape[2]
        gradients = logits.new_empty((2 * learning, *logits.shape), dtype=dtype)
        with torch.autocast(logits.device.type, enabled=False):
            for first in range(0, len(logits), size):
                part = slice(first, first + size)
                true = masks.index_select(0, objects[part]).to(dtype)
                results = _part(logits[part].to(dtype), true, learning)
                for index, (values, gradient) in enumerate(results):
                    losses[index, part] = values
                    if gradient is not None:
                        gradients[index, part] = resize_gradient(gradient, before)
        ctx.dtype = logits.dtype
        ctx.save_for_backward(gradients)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradients,) = ctx.saved_tensors
        focal, dice = upstream[..., None, None]
        total = torch.addcmul(focal * gradients[0], dice, gradients[1])
        return total.to(ctx.dtype), None, None, None


def _part(logits: Tensor, masks: Tensor, learning: bool) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield the values, [n], of focal and of dice loss, and their gradients at upsampled pixels.

    Args:
        logits: [n, h, w].
        masks: 0 or 1, of the logits' dtype, [n, H, W]. What depends on them is computed from them:
            that takes a CPU less time than choosing by a condition, and rounds nothing.
        learning: whether to compute the gradients, [n, H, W]; otherwise they are None.
    """
    size = masks.shape[-2:]
    logits = logits[:, None]
    upsampled = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[:, 0]
    # The logit of a pixel's being on the wrong side: the negative one inside.
    wrong = torch.addcmul(upsampled, upsampled, masks, value=-2)
    del upsampled
    cross_entropy = F.softplus(wrong, threshold=_LINEAR)
    wrong.sigmoid_()  # 1 - p_t
    yield _focal(cross_entropy, wrong, masks, learning)
    del cross_entropy
    yield _dice(wrong, masks, learning)


def _focal(
    cross_entropy: Tensor, wrong: Tensor, masks: Tensor, learning: bool
) -> tuple[Tensor, Tensor | None]:
    """Return mean alpha_t (1 - p_t)^2 cross entropy, and gradient; overwrite `cross_entropy`."""
    # alpha_t, with the sign of d wrong / d logit: -alpha inside, 1 - alpha outside.
    weights = (1 - _ALPHA - masks).mul_(wrong)
    weights *= wrong
    signed = cross_entropy.mul_(weights)
    pixels = masks[0].numel()
    values = signed.abs().sum((1, 2)) / pixels
    if not learning:
        return values, None
    # The derivative: alpha_t (2 wrong^2 (1 - wrong) cross entropy + wrong^3).
    gradient = weights.mul_(wrong / pixels)
    gradient.add_(signed, alpha=2 / pixels)
    return values, gradient.addcmul_(signed, wrong, value=-2 / pixels)


def _dice(wrong: Tensor, masks: Tensor, learning: bool) -> tuple[Tensor, Tensor | None]:
    """Return 1 - (2 sum(pq) + 1) / (sum(p) + sum(q) + 1), and its gradient; overwrite `wrong`."""
    p = (masks - wrong).abs_()
    numerator = 2 * (p * masks).sum((1, 2)) + 1
    size = p.sum((1, 2)) + masks.sum((1, 2)) + 1
    values = 1 - numerator / size
    if not learning:
        return values, None
    # It is this outside, and less inside.
    outside = (numerator / size**2)[:, None, None]
    slope = torch.addcmul(outside, masks, (2 / size)[:, None, None], value=-1)
    # The derivative of p is p (1 - p), on either side.
    return values, slope.mul_(wrong.addcmul_(wrong, wrong, value=-1))
