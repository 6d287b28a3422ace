"""Select instances from classified masks (Mask2Former, arXiv 2112.01527, section 4.1).

N masks, K classes, I instances, H W of the requested output.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.structures import Instances
from torch import Tensor

from ...modeling.instances import make_instances
from ...modeling.layers.remembered import constant
from ...ops.masks import mask_areas
from ...ops.packed_masks import measure_inside
from ...ops.resize import ResizedMasks
from ...ops.run_masks import RunMasks, are_dense, collect_runs, mask_parts


class ClassifiedMasks(NamedTuple):
    """The best pairs of a mask and a class; a mask may be in several pairs.

    Attributes:
        scores: float32 [I], descending.
        classes, masks: int64 [I].
    """

    scores: Tensor
    classes: Tensor
    masks: Tensor


def select_instances(
    probabilities: Tensor, stuff_classes: Sequence[int], limit: int
) -> ClassifiedMasks:
    """Return the best pairs of a mask and a class.

    Args:
        probabilities: float32 [N, K + 1] of the classes, "no object" last.
        stuff_classes: classes that have no instances.
        limit: the greatest number of pairs.
    """
    scores = probabilities[:, :-1].clone()
    scores.index_fill_(1, constant(scores, tuple(stuff_classes), torch.int64), -1)
    num_things = scores.shape[1] - len(stuff_classes)
    best = scores.flatten().topk(min(limit, len(scores) * num_things))
    masks = best.indices.div(scores.shape[1], rounding_mode="floor")
    return ClassifiedMasks(best.values, best.indices % scores.shape[1], masks)


@dataclass
class InstanceRanking:
    """The sorted instances of one image; only the device knows yet how many of them are kept.

    Attributes:
        masks: bool [I, H, W], or as many runs.
        scores: float32 [I], descending.
        classes: int64 [I].
        order: int64 [I], indices of the masks and classes, in the order of the scores.
        count: int64 [], how many are kept: the first ones.
    """

    masks: Tensor | RunMasks
    scores: Tensor
    classes: Tensor
    order: Tensor
    count: Tensor

    def best(self, count: int) -> Instances:
        """Return the first `count` instances; see `make_instances`."""
        order = self.order[:count]
        return make_instances(self.masks[order], self.scores[:count], self.classes[order])


def rank_instances(
    logits: ResizedMasks, best: ClassifiedMasks, *, threshold: float
) -> InstanceRanking:
    """Sort instances by their scores times the mean probability inside their masks.

    Args:
        logits: the logits of all N masks, resized.
        best: the instances.
        threshold: the lowest score, exclusive; a mask without pixels scores 0.
    """
    count, size = len(best.scores), logits.output_size
    quality = torch.zeros_like(best.scores)

    def measured(part: slice) -> Tensor:
        masks, quality[part] = _measure(logits[best.masks[part]], count)
        return masks

    masks: Tensor | RunMasks
    if are_dense(count, size, best.scores.device):
        masks = measured(slice(count))
    else:
        masks = collect_runs(measured, mask_parts(count, size, count), size)
    scores = best.scores * quality
    kept = scores > threshold
    scores, order = torch.where(kept, scores, -math.inf).sort(descending=True, stable=True)
    return InstanceRanking(masks, scores, best.classes, order, kept.sum())


def _measure(logits: ResizedMasks, total: int) -> tuple[Tensor, Tensor]:
    """Return the masks of some of `total` instances, bool [n, H, W], and their qualities.

    The quality, float32 [n], is the mean probability inside the mask, 0 for one without pixels.
    """
    given = logits.masks
    shape, kind = (len(given), *logits.output_size), torch.bool
    masks = torch.empty(shape, dtype=kind, device=given.device)
    if not logits.by_rows:
        quality = torch.zeros(len(given), dtype=torch.float32, device=given.device)
        for part, soft in logits:
            inside = torch.gt(soft, 0, out=masks[part])
            quality[part] = measure_inside(soft, inside, 0.0, logits=True)[1]
        return masks, quality
    within, area = torch.zeros(2, len(given), dtype=torch.float32, device=given.device)
    for rows, block in logits.rows(as_for=total).blocks:
        inside = torch.gt(block, 0)
        masks[:, rows] = inside
        area += mask_areas(inside)
        within += F.threshold(block, 0.0, -math.inf).sigmoid_().sum((1, 2))
    return masks, within / area.clamp(min=1)
