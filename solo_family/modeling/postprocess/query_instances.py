"""Instances of a model that classifies masks (Mask2Former, arXiv 2112.01527, section 4.1).

N masks, K classes, I instances, H W of the image that was asked for.
"""

from collections.abc import Sequence

import torch
from detectron2.structures import Instances
from torch import Tensor

from ...ops.packed_masks import measure_inside
from .instances import make_instances
from .resize import ResizedMasks


def select_instances(
    probabilities: Tensor, stuff_classes: Sequence[int], limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the best pairs of a mask and a class; a mask may be in several.

    Args:
        probabilities: float32 [N, K + 1] of the classes, "no object" last.
        stuff_classes: classes that have no instances.
        limit: the greatest number of pairs.

    Returns:
        scores: float32 [I], descending.
        classes, masks: int64 [I].
    """
    scores = probabilities[:, :-1].clone()
    scores[:, list(stuff_classes)] = -1
    num_things = scores.shape[1] - len(stuff_classes)
    best = scores.flatten().topk(min(limit, len(scores) * num_things))
    masks = best.indices.div(scores.shape[1], rounding_mode="floor")
    return best.values, best.indices % scores.shape[1], masks


def mask_instances(
    logits: ResizedMasks, scores: Tensor, classes: Tensor, *, threshold: float
) -> Instances:
    """Returns instances, their scores times the mean probability inside their masks.

    Args:
        logits: of the instances' masks, [I, h, w] and resized.
        scores: float32 [I].
        classes: int64 [I].
        threshold: what scores no more than this is dropped; a mask without pixels scores 0.

    Returns:
        See `make_instances`; in the order of their scores.
    """
    masks = torch.empty((len(scores), *logits.output_size), dtype=torch.bool, device=scores.device)
    quality = torch.zeros_like(scores)
    for part, soft in logits:
        inside = torch.gt(soft, 0, out=masks[part])
        quality[part] = measure_inside(soft, inside, 0.0, logits=True)[1]
    scores = scores * quality
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] > threshold]
    return make_instances(masks[order], scores[order], classes[order])
