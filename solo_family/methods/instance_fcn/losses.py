"""Compute InstanceFCN's logistic losses, of objectness and masks (arXiv 1603.08678, "Training").

W windows, P windows whose mask is learnt, G objects, k relative positions per axis, m side of a
window, K classes, H W cells of the map.
"""

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor

from ...modeling.normalizer import LossCount
from .assemble import assemble
from .targets import SampledWindows, window_masks


def window_mask_loss(logits: Tensor, targets: Tensor, inside: Tensor) -> Tensor:
    """Return the mean logistic loss over the cells of each window that are on the map.

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
    """Weight and normalise the losses.

    The paper's is the sum over windows i of L(p_i, p*_i) + sum_j L(S_ij, S*_ij), of objectness p
    and of the cells j of masks S. The sum over i is divided by the number of windows, and that over
    j by the number of cells.

    Args:
        objectness_weight: the weight of `loss_objectness`.
        mask_weight: the weight of `loss_mask`.
        class_weight: weight of `loss_class`.
        window_size: m.
        negative_masks: whether negative windows learn empty masks.
        globally: `SOLVER.NORMALIZE_LOSS_GLOBALLY`.
    """

    def __init__(
        self,
        *,
        window_size: int = 21,
        objectness_weight: float = 1.0,
        mask_weight: float = 1.0,
        class_weight: float = 1.0,
        negative_masks: bool = False,
        globally: bool = False,
    ) -> None:
        self.window_size = window_size
        self.objectness_weight = objectness_weight
        self.mask_weight = mask_weight
        self.class_weight = class_weight
        self.negative_masks = negative_masks
        self.globally = globally

    @classmethod
    def from_config(cls, method: CfgNode, *, globally: bool) -> "WindowCriterion":
        """Read `cfg.MODEL.INSTANCE_FCN`."""
        return cls(
            window_size=method.WINDOW_SIZE,
            objectness_weight=method.LOSS.OBJECTNESS_WEIGHT,
            mask_weight=method.LOSS.MASK_WEIGHT,
            class_weight=method.LOSS.CLASS_WEIGHT,
            negative_masks=method.LOSS.NEGATIVE_MASKS,
            globally=globally,
        )

    def mask_losses(self, score_maps: Tensor, windows: SampledWindows, masks: Tensor) -> Tensor:
        """Return the loss of every window of one image whose mask is learnt, float32 [P].

        Args:
            score_maps: logits [k^2, H, W].
            windows: the windows of the image.
            masks: bool [G, H, W], of its objects.
        """
        centers, objects = windows.centers, windows.objects
        if self.negative_masks:
            objects = F.pad(objects, (0, len(centers) - len(objects)), value=-1)
        centers = centers[: len(objects)]
        assembled = assemble(score_maps, centers, self.window_size)
        targets = window_masks(masks, objects, centers, self.window_size)
        return window_mask_loss(assembled.logits, targets, assembled.inside)

    def __call__(
        self, objectness_logits: Tensor, positive: Tensor, mask_losses: Tensor
    ) -> dict[str, Tensor]:
        """Compute the two losses of the paper for a batch.

        Args:
            objectness_logits: [W], of the windows of all images.
            positive: bool [W].
            mask_losses: float32 [P], from `mask_losses`.

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
        """Compute the loss of the classifier: the cross-entropy of the positive windows.

        Args:
            class_logits: float32 [P, K].
            classes: int64 [P].

        Returns:
            loss_class: a weighted scalar.
        """
        losses = F.cross_entropy(class_logits, classes, reduction="none")
        return {"loss_class": self.class_weight * self._mean(losses)}

    def counts(self, num_windows: Tensor, num_positive: Tensor) -> dict[str, LossCount]:
        """Return what each loss is divided by, from the numbers of windows of the batch."""
        windows, positive = (LossCount(n, self.globally) for n in (num_windows, num_positive))
        return {
            "loss_objectness": windows,
            "loss_mask": windows if self.negative_masks else positive,
            "loss_class": positive,
        }

    def _mean(self, losses: Tensor) -> Tensor:
        # Filled on the device: copying a number from the host would wait for all queued work.
        count = torch.full((), len(losses), device=losses.device)
        return losses.sum() / LossCount(count, self.globally).divisor()
