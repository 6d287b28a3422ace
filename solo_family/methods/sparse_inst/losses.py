"""Compute the losses of SparseInst's matched predictions (arXiv 2203.12827).

L supervised layers (SparseInst has one), B images, N predictions, K classes, P matched pairs of all
images, h w of the masks.
"""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from ...modeling.dice import dice_loss
from ...modeling.focal import focal_loss
from ...modeling.matcher import Matches
from ...modeling.set_criterion import target_classes
from ...modeling.set_predictions import LayeredPredictions, SetTargets

# At inference masks are thresholded at MASK_THRESHOLD, 0.45; the IoU is measured at this, as
# published.
_IOU_THRESHOLD = 0.4


def sparse_inst_losses(
    predictions: LayeredPredictions,
    targets: SetTargets,
    matches: Matches,
    num_objects: Tensor,
    *,
    items: Collection[str] = ("labels", "masks"),
) -> dict[str, Tensor]:
    """Compute the losses in float32, not yet weighted, [L] each.

    Args:
        predictions: the predictions of all layers, with objectness.
        targets: masks at the resolution of the predicted ones, 0 to 1.
        matches: the matches of every image.
        num_objects: divides the sums over objects.
        items: "labels" adds `loss_class` (the paper's L_cls); "masks" adds `loss_dice` (L_dice),
            `loss_mask` (L_pix) and, where there is an objectness, `loss_objectness` (L_s).

    Returns:
        The losses by name.
    """
    losses = {}
    if "labels" in items:
        losses["loss_class"] = _class_loss(predictions, targets, matches) / num_objects
    if "masks" in items:
        shape = matches.objects.shape
        logits = predictions.masks.of_pairs(matches).float()
        masks = targets.masks.index_select(0, matches.objects.flatten())
        dice = dice_loss(logits, masks, eps=5e-5).view(shape)
        losses["loss_dice"] = dice.sum(1) / num_objects
        pixels = (shape[0], shape[1] * masks.shape[1] * masks.shape[2])
        losses["loss_mask"] = _mean_binary_cross_entropy(logits.view(pixels), masks.view(pixels))
        if predictions.objectness_logits is not None:
            of_all = predictions.objectness_logits.float().flatten(1)
            objectness = of_all.gather(1, matches.predictions)
            iou = _iou(logits, masks).view(shape)
            losses["loss_objectness"] = _mean_binary_cross_entropy(objectness, iou)
    return losses


def _class_loss(predictions: LayeredPredictions, targets: SetTargets, matches: Matches) -> Tensor:
    """Sum the focal loss over all predictions; all targets of one without an object are 0."""
    num_predictions, num_classes = predictions.class_logits.shape[-2:]
    labels = target_classes(targets, matches, num_predictions, background=num_classes)
    one_hot = labels[..., None] == torch.arange(num_classes, device=labels.device)
    logits = predictions.class_logits.flatten(1, 2)
    return focal_loss(logits, one_hot, alpha=0.25, gamma=2.0).sum((1, 2))


def _mean_binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over all dimensions but the first."""
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    # The mean of nothing is 0, not NaN.
    return losses.sum(1) / max(logits.shape[1], 1)


@torch.no_grad()
def _iou(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the IoU of every predicted mask with its object, [L * P]."""
    predicted = (logits.sigmoid() >= _IOU_THRESHOLD).flatten(1)
    true = (masks > 0.5).flatten(1)
    overlap = (predicted & true).sum(1)
    return overlap / ((predicted | true).sum(1) + 1e-6)
