"""The losses of mask classification (MaskFormer, arXiv 2107.06278, Eq. 1 and 2, section 4.2).

L decoder layers, B images, N predictions, K classes, P matched pairs of all images in one layer, h
w of the predicted masks, H W of the network's padded input.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from detectron2.projects.point_rend.point_features import (
    get_uncertain_point_coords_with_randomness,
    point_sample,
)
from torch import Tensor

from ...modeling.dice import dice_loss
from ...modeling.focal import focal_loss
from ...modeling.matcher import Matches
from ...modeling.set_criterion import target_classes
from ...modeling.set_predictions import LayeredPredictions, SetTargets
from .gradient_at_once import in_small_parts
from .upsampled_mask_losses import upsampled_mask_losses

# Matched masks are upsampled so many pixels at a time: on a CPU what fits its cache, and what the
# allocator hands out again without the kernel; elsewhere enough that the GPU, not the host, is what
# takes the time.
_PIXELS_AT_ONCE = {"cpu": 2**19}
_PIXELS_AT_ONCE_ELSEWHERE = 2**24


@dataclass(frozen=True)
class PointSampler:
    """Points that stand for all pixels of a mask (PointRend, arXiv 1912.08193, section 3.1).

    Attributes:
        num_points: of every mask.
        oversample_ratio: times as many random points are drawn.
        importance_ratio: the share of the points that are the most uncertain ones of those; the
            others are random.
    """

    num_points: int
    oversample_ratio: float
    importance_ratio: float

    def __call__(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits and targets at the points, float32 [P, points] each.

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


class MaskClassificationLosses:
    """Cross-entropy of all predictions; focal and dice loss of those that are matched.

    Args:
        num_classes: K.
        no_object_weight: weight of predictions that are to be "no object".
        points: where masks are compared; None for all pixels of the network's input.
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
        """Returns loss_ce, loss_mask, loss_dice, [L] each; see `SetCriterion`."""
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
        # torch's weighted mean, but 0 where all weights are.
        return loss.view_as(labels).sum(1) / weights[labels].sum(1).clamp(min=1e-6)

    def _mask_losses(self, logits: Tensor, masks: Tensor, objects: Tensor) -> Tensor:
        """Returns focal and dice loss of every pair, [2, L * P].

        Args:
            logits: [L * P, h, w].
            masks: bool, of all objects.
            objects: int64 [L * P], each pair's.
        """
        if not len(objects):
            # Nothing to upsample; the sum is 0 and still depends on the predictions.
            return logits.float().flatten(1).sum(1).expand(2, 0)
        pixels = _PIXELS_AT_ONCE.get(masks.device.type, _PIXELS_AT_ONCE_ELSEWHERE)
        size = max(1, pixels // masks[0].numel())
        if self.points is None:
            return upsampled_mask_losses(logits, masks, objects, size)
        return in_small_parts(partial(_losses_at, self.points, masks), logits, objects, size)


def _losses_at(points: PointSampler, masks: Tensor, logits: Tensor, objects: Tensor) -> Tensor:
    """Returns focal and dice loss at points of every mask, [2, n]."""
    sampled, targets = points(logits, masks[objects])
    focal = focal_loss(sampled, targets, alpha=0.25, gamma=2.0).flatten(1).mean(1)
    dice = dice_loss(sampled, targets, eps=0.0, smooth=1.0, squared=False)
    return torch.stack([focal, dice])
