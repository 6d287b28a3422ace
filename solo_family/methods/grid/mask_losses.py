"""Compute the mask losses that SOLO compares, one value per mask.

SOLO, arXiv 1912.04488, section 3.3 of the ECCV version ("Loss function", Table 4).

N masks, h w size of the masks.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...modeling.dice import dice_loss
from ...modeling.focal import focal_loss

# Maps logits [N, h, w] and targets, bool [N, h, w], to losses, float32 [N].
MaskLoss = Callable[[Tensor, Tensor], Tensor]

# The losses of more masks than this are computed in parts, and again in the backward pass: a
# crowded image then costs time, not memory.
_AT_ONCE = 128


class ChosenMaskLoss(NamedTuple):
    """Hold the mask loss that a configuration chooses.

    Attributes:
        function: computes one value per mask.
        weight: the factor on the loss.
        name: the key of the loss: "loss_dice", or "loss_mask" for a loss per pixel.
    """

    function: MaskLoss
    weight: float
    name: str


def make_mask_loss(loss: CfgNode) -> ChosenMaskLoss:
    """Return the mask loss that `MODEL.SOLO.LOSS` chooses."""
    if loss.MASK_LOSS == "bce":
        bce = partial(bce_loss, positive_weight=loss.BCE_POSITIVE_WEIGHT)
        return ChosenMaskLoss(bce, loss.BCE_WEIGHT, "loss_mask")
    if loss.MASK_LOSS == "focal":
        focal = partial(mean_focal_loss, alpha=loss.FOCAL_ALPHA, gamma=loss.FOCAL_GAMMA)
        return ChosenMaskLoss(focal, loss.MASK_FOCAL_WEIGHT, "loss_mask")
    return ChosenMaskLoss(dice_loss, loss.DICE_WEIGHT, "loss_dice")


def bce_loss(logits: Tensor, targets: Tensor, *, positive_weight: float) -> Tensor:
    """Return the binary cross-entropy, averaged over the pixels of each mask.

    Args:
        logits: [N, h, w] of any floating dtype; the loss is computed in float32.
        targets: bool [N, h, w].
        positive_weight: the factor on the loss of the object's own pixels.

    Returns:
        float32 [N].
    """
    with torch.autocast(logits.device.type, enabled=False):
        weight = torch.full((1,), positive_weight, device=logits.device)
        loss = F.binary_cross_entropy_with_logits(
            logits.float(), targets.float(), pos_weight=weight, reduction="none"
        )
    return _mean(loss)


def mean_focal_loss(logits: Tensor, targets: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Return the focal loss, averaged over the pixels of each mask; see `focal_loss`."""
    return _mean(focal_loss(logits, targets, alpha=alpha, gamma=gamma))


def _mean(loss: Tensor) -> Tensor:
    return loss.flatten(1).sum(1) / loss.shape[1:].numel()


def in_parts(losses: Callable[..., Tensor], *items: Tensor) -> Tensor:
    """Return `losses(*items)`, float32 [N], in bounded memory.

    Args:
        losses: maps tensors of n items each to losses [n]; it may use other tensors as well.
        items: tensors [N, ...].
    """
    parts = list(zip(*(item.split(_AT_ONCE) for item in items)))
    if len(parts) == 1:
        return losses(*parts[0])
    return torch.cat([checkpoint(losses, *part, use_reentrant=False) for part in parts])
