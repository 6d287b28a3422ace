"""The losses of SparseInst's matched predictions (arXiv 2203.12827, section 3.4).

B images, N predictions, K classes, P matched pairs, h w of the masks.
"""

from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..matching.hungarian import Match
from .dice import dice_loss
from .focal import focal_loss
from .set_criterion import (
    SetPredictions,
    SetTargets,
    matched_predictions,
    matched_targets,
    target_classes,
)

# At inference masks are cut at MASK_THRESHOLD, 0.45; the IoU is measured at this, as published.
_IOU_THRESHOLD = 0.4


def sparse_inst_losses(
    predictions: SetPredictions,
    targets: SetTargets,
    matches: Sequence[Match],
    num_objects: Tensor,
    *,
    items: Collection[str] = ("labels", "masks"),
) -> dict[str, Tensor]:
    """Computes the losses in float32, not yet weighted.

    Args:
        predictions: with objectness.
        targets: masks at the resolution of the predicted ones, 0 to 1.
        matches: of every image.
        num_objects: what the sums over objects are divided by.
        items: "labels" gives `loss_class`; "masks" gives `loss_dice`, `loss_mask` and
            `loss_objectness`.
    """
    losses = {}
    if "labels" in items:
        losses["loss_class"] = _class_loss(predictions, targets, matches) / num_objects
    if "masks" in items:
        assert predictions.objectness_logits is not None
        logits = matched_predictions(predictions.mask_logits, matches).float()
        masks = matched_targets(targets.masks, matches)
        objectness = matched_predictions(predictions.objectness_logits, matches).float()
        losses["loss_dice"] = dice_loss(logits, masks, eps=5e-5).sum() / num_objects
        losses["loss_mask"] = _mean_binary_cross_entropy(logits, masks)
        losses["loss_objectness"] = _mean_binary_cross_entropy(objectness, _iou(logits, masks))
    return losses


def _class_loss(
    predictions: SetPredictions, targets: SetTargets, matches: Sequence[Match]
) -> Tensor:
    """Sums the focal loss over all predictions: of those without an object every class is 0."""
    num_predictions, num_classes = predictions.class_logits.shape[1:]
    labels = target_classes(targets, matches, num_predictions, background=num_classes)
    one_hot = F.one_hot(labels, num_classes + 1)[..., :-1]
    return focal_loss(predictions.class_logits, one_hot, alpha=0.25, gamma=2.0).sum()


def _mean_binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    # The mean of nothing is 0, not NaN.
    total = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    return total / max(logits.numel(), 1)


@torch.no_grad()
def _iou(logits: Tensor, masks: Tensor) -> Tensor:
    """Returns the IoU of every predicted mask with its object, [P]."""
    predicted = (logits.sigmoid() >= _IOU_THRESHOLD).flatten(1)
    true = (masks > 0.5).flatten(1)
    overlap = (predicted & true).sum(1)
    return overlap / ((predicted | true).sum(1) + 1e-6)
