"""The mask losses that SOLO compares (arXiv 1912.04488, section 3.3): one value per mask.

N masks, h w their size.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...modeling.dice import dice_loss
from ...modeling.focal import focal_loss

# Maps logits [N, h, w] and targets, bool [N, h, w], to losses, float32 [N].
MaskLoss = Callable[[Tensor, Tensor], Tensor]

# More masks than this are computed in parts, and again in the backward pass, so that a crowded
# image costs time and not memory.
_AT_ONCE = 128


def make_mask_loss(loss: CfgNode) -> tuple[MaskLoss, float]:
    """Return the mask loss that `MODEL.SOLO.LOSS` names, and its weight."""
    if loss.MASK_LOSS == "bce":
        return partial(bce_loss, positive_weight=loss.BCE_POSITIVE_WEIGHT), loss.BCE_WEIGHT
    if loss.MASK_LOSS == "focal":
        focal = partial(mean_focal_loss, alpha=loss.FOCAL_ALPHA, gamma=loss.FOCAL_GAMMA)
        return focal, loss.MASK_FOCAL_WEIGHT
    return dice_loss, loss.DICE_WEIGHT


def bce_loss(logits: Tensor, targets: Tensor, *, positive_weight: float) -> Tensor:
    """Return binary cross entropy, averaged over each mask's pixels.

    Args:
        logits: any floating dtype [N, h, w]; computed in float32.
        targets: bool [N, h, w].
        positive_weight: how often a pixel of the object counts.
    """
    with torch.autocast(logits.device.type, enabled=False):
        weight = torch.full((1,), positive_weight, device=logits.device)
        loss = F.binary_cross_entropy_with_logits(
            logits.float(), targets.float(), pos_weight=weight, reduction="none"
        )
    return _mean(loss)


def mean_focal_loss(logits: Tensor, targets: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Return focal loss, averaged over each mask's pixels; see `focal_loss`."""
    return _mean(focal_loss(logits, targets, alpha=alpha, gamma=gamma))


def _mean(loss: Tensor) -> Tensor:
    # Not `mean`, which knows no number of pixels where there is no mask.
    return loss.flatten(1).sum(1) / loss.shape[1:].numel()


def in_parts(losses: Callable[..., Tensor], *items: Tensor) -> Tensor:
    """Return `losses(*items)`, float32 [N], in bounded memory.

    Args:
        losses: maps tensors of n items each to losses [n]; it may close over other tensors.
        items: tensors [N, ...].
    """
    parts = list(zip(*(item.split(_AT_ONCE) for item in items)))
    if len(parts) == 1:
        return losses(*parts[0])
    return torch.cat([checkpoint(losses, *part, use_reentrant=False) for part in parts])
