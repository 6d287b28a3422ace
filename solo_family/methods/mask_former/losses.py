"""Compute MaskFormer's losses (arXiv 2107.06278): of mask classification, and per pixel.

L decoder layers, B images, N predictions, K classes, G objects of an image, P matched pairs of all
images in one layer, h w of the predicted masks, H W of the network's padded input.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...modeling.matcher import Matches
from ...modeling.matching_costs import nearest_masks
from ...modeling.set_criterion import target_classes
from ...modeling.set_predictions import LayeredPredictions, SetTargets
from .point_mask_losses import PointSampler, point_mask_losses
from .upsampled_mask_losses import upsampled_mask_losses

# Matched masks are upsampled in parts of so many pixels: on a CPU as many as fit its cache, and as
# the allocator reuses without asking the kernel; elsewhere enough to make the GPU, not the host,
# the bottleneck.
_PIXELS_AT_ONCE = {"cpu": 2**19}
_PIXELS_AT_ONCE_ELSEWHERE = 2**24
# What stands for a smaller sum of the predictions' weights.
LEAST_WEIGHT = 1e-6
# The label of pixels that the per-pixel likelihood does not learn.
_IGNORED = -1


class MaskClassificationLosses:
    """Compute cross-entropy for all predictions, focal and dice loss for the matched (Eq. 1, 4.1).

    Args:
        num_classes: K.
        no_object_weight: weight of predictions whose target is "no object".
        points: selects where masks are compared; None for all pixels of the network's input.
    """

    def __init__(
        self, *, num_classes: int, no_object_weight: float, points: PointSampler | None = None
    ) -> None:
        self.num_classes = num_classes
        self.no_object_weight = no_object_weight
        self.points = points

    def __call__(
        self,
        predictions: LayeredPredictions,
        targets: SetTargets,
        matches: Matches,
        num_objects: Tensor,
    ) -> dict[str, Tensor]:
        """Return loss_ce, loss_mask, loss_dice, [L] each; see `SetCriterion`."""
        num_predictions = predictions.class_logits.shape[2]
        labels = target_classes(targets, matches, num_predictions, background=self.num_classes)
        logits = predictions.masks.of_pairs(matches)
        with torch.autocast(logits.device.type, enabled=False):
            mask_losses = self._mask_losses(logits, targets.masks, matches.objects.flatten())
            focal, dice = mask_losses.view(2, *matches.objects.shape).sum(2) / num_objects
            class_loss = self._class_loss(predictions.class_logits.float().flatten(1, 2), labels)
        return {"loss_ce": class_loss, "loss_mask": focal, "loss_dice": dice}

    def _class_loss(self, class_logits: Tensor, labels: Tensor) -> Tensor:
        weights = class_logits.new_ones(self.num_classes + 1)
        weights[-1] = self.no_object_weight
        loss = F.cross_entropy(
            class_logits.flatten(0, 1), labels.flatten(), weights, reduction="none"
        )
        # torch's weighted mean, but 0 if all weights are 0.
        return loss.view_as(labels).sum(1) / weights[labels].sum(1).clamp(min=LEAST_WEIGHT)

    def _mask_losses(self, logits: Tensor, masks: Tensor, objects: Tensor) -> Tensor:
        """Return focal and dice loss of every pair, [2, L * P].

        Args:
            logits: [L * P, h, w].
            masks: bool, of all objects.
            objects: int64 [L * P], the object of each pair.
        """
        if not len(objects):
            # Nothing to upsample; the sum is 0, but still depends on the predictions.
            return logits.float().flatten(1).sum(1).expand(2, 0)
        pixels = _PIXELS_AT_ONCE.get(masks.device.type, _PIXELS_AT_ONCE_ELSEWHERE)
        size = max(1, pixels // masks[0].numel())
        if self.points is None:
            return upsampled_mask_losses(logits, masks, objects, size)
        return point_mask_losses(self.points, logits, masks, objects, size)


class MarginalLikelihood:
    """Compute the likelihood of the pixels' classes, marginalised over predictions, unmatched.

    It is the paper's ablation, which performs poorly (section 3.4, last paragraph). The probability
    of class c at a pixel is the sum over predictions i of p_i(c) m_i, divided by its sum over the
    classes.
    """

    def __call__(self, predictions: LayeredPredictions, targets: SetTargets) -> dict[str, Tensor]:
        """Compute the loss of a batch, at the size of the predictions.

        Args:
            predictions: the predictions of every supervised layer.
            targets: masks at any size. Pixels of no mask are not learnt; where masks overlap, the
                last one counts.

        Returns:
            `loss_likelihood` of the last layer, `loss_likelihood_<index>` of those before it.
        """
        masks = nearest_masks(targets.masks, predictions.masks.size) > 0.5
        by_image = zip(targets.classes.split(targets.counts), masks.split(targets.counts))
        labels = torch.stack([_label_map(true, classes) for classes, true in by_image])
        losses = {}
        num_layers = len(predictions.class_logits)
        for layer, class_logits in enumerate(predictions.class_logits):
            suffix = "" if layer == num_layers - 1 else f"_{layer}"
            mask_logits = predictions.masks.of_layer(layer, slice(None))
            loss = _negative_log_likelihood(class_logits, mask_logits, labels)
            losses["loss_likelihood" + suffix] = loss
        return losses


def _label_map(masks: Tensor, classes: Tensor) -> Tensor:
    """Return a label map, int64 [h, w], from masks bool [G, h, w]."""
    labels = classes.new_full(masks.shape[-2:], _IGNORED)
    for mask, label in zip(masks, classes):
        labels = torch.where(mask, label, labels)
    return labels


def _negative_log_likelihood(class_logits: Tensor, mask_logits: Tensor, labels: Tensor) -> Tensor:
    with torch.autocast(labels.device.type, enabled=False):
        classes = class_logits.float().softmax(2)[..., :-1]
        masks = mask_logits.float().sigmoid()
        joint = torch.einsum("bnk,bnhw->bkhw", classes, masks).clamp(min=1e-6)
        log_probability = joint.log() - joint.sum(1, keepdim=True).log()
        loss = F.nll_loss(log_probability, labels, ignore_index=_IGNORED, reduction="sum")
        return loss / (labels != _IGNORED).sum().clamp(min=1)
