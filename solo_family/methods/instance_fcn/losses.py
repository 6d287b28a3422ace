"""The loss of InstanceFCN (arXiv 1603.08678, section 4): logistic, of objectness and of masks.

W windows, P windows whose mask is learnt, m side of a window, K classes.
"""

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor

from ...modeling.normalizer import normalizer


def window_mask_loss(logits: Tensor, targets: Tensor, inside: Tensor) -> Tensor:
    """Returns the mean logistic loss over the cells of each window that are on the map.

    Args:
        logits: [P, m, m], any floating dtype; computed in float32.
        targets: bool [P, m, m].
        inside: bool [P, m, m], the cells that count.

    Returns:
        float32 [P].
    """
    with torch.autocast(logits.device.type, enabled=False):
        loss = F.binary_cross_entropy_with_logits(
            logits.float(), targets.float(), weight=inside.float(), reduction="none"
        )
        return loss.flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)


class WindowCriterion:
    """Weights and normalises the losses.

    The paper's sum over windows is divided by their number, that over the cells of a window by
    theirs.

    Args:
        objectness_weight, mask_weight, class_weight: of the losses.
        globally: `SOLVER.NORMALIZE_LOSS_GLOBALLY`.
    """

    def __init__(
        self,
        *,
        objectness_weight: float = 1.0,
        mask_weight: float = 1.0,
        class_weight: float = 1.0,
        globally: bool = False,
    ) -> None:
        self.objectness_weight = objectness_weight
        self.mask_weight = mask_weight
        self.class_weight = class_weight
        self.globally = globally

    @classmethod
    def from_config(cls, method: CfgNode, *, globally: bool) -> "WindowCriterion":
        """Reads `cfg.MODEL.INSTANCE_FCN`."""
        return cls(
            objectness_weight=method.LOSS.OBJECTNESS_WEIGHT,
            mask_weight=method.LOSS.MASK_WEIGHT,
            class_weight=method.LOSS.CLASS_WEIGHT,
            globally=globally,
        )

    def __call__(
        self, objectness_logits: Tensor, positive: Tensor, mask_losses: Tensor
    ) -> dict[str, Tensor]:
        """Computes the two losses of the paper, of a batch.

        Args:
            objectness_logits: [W], of the windows of all images.
            positive: bool [W].
            mask_losses: float32 [P], see `window_mask_loss`.

        Returns:
            loss_objectness, loss_mask: weighted scalars.
        """
        with torch.autocast(objectness_logits.device.type, enabled=False):
            objectness = F.binary_cross_entropy_with_logits(
                objectness_logits.float(), positive.float(), reduction="none"
            )
        return {
            "loss_objectness": self.objectness_weight * self._mean(objectness),
            "loss_mask": self.mask_weight * self._mean(mask_losses),
        }

    def classification(self, class_logits: Tensor, classes: Tensor) -> dict[str, Tensor]:
        """Computes the loss of the classifier: cross-entropy of the positive windows.

        Args:
            class_logits: float32 [P, K].
            classes: int64 [P].

        Returns:
            loss_class: a weighted scalar.
        """
        losses = F.cross_entropy(class_logits, classes, reduction="none")
        return {"loss_class": self.class_weight * self._mean(losses)}

    def _mean(self, losses: Tensor) -> Tensor:
        # Filled on the device: a number from the host would wait for what is queued there.
        count = torch.full((), len(losses), device=losses.device)
        return losses.sum() / normalizer(count, globally=self.globally)
