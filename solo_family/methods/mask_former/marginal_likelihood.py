"""Training on the per-pixel likelihood (MaskFormer, arXiv 2107.06278, section 3.4, last paragraph).

The paper finds it poor; it is here as its ablation. B images, N predictions, K classes, G objects
of an image, h w of the predicted masks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...modeling.matching_costs import nearest_masks
from ...modeling.set_predictions import LayeredPredictions, SetTargets

_IGNORED = -1


class MarginalLikelihood:
    """The likelihood of pixels' classes, marginalised over predictions, without any matching.

    The probability of class c at a pixel is sum_i p_i(c) m_i, divided by its sum over the classes.
    """

    def __call__(self, predictions: LayeredPredictions, targets: SetTargets) -> dict[str, Tensor]:
        """Computes the loss of a batch, at the size of the predictions.

        Args:
            predictions: of every supervised layer.
            targets: masks at any size. Pixels of no mask are not learnt; of several masks at a
                pixel the last counts.

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
    """Returns int64 [h, w] from masks bool [G, h, w]."""
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
