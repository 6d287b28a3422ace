"""Selection whose sizes depend on nothing that an image shows, for graphs that are exported.

N predictions, K classes, h w of the masks.
"""

import torch
from torch import Tensor

from ...modeling.fixed_instances import FixedInstances, decay_fixed, measure_fixed
from .selection import SetSelector


def select_set_fixed(
    selector: SetSelector,
    class_logits: Tensor,
    mask_logits: Tensor,
    objectness_logits: Tensor,
    score_threshold: float | Tensor | None,
) -> FixedInstances:
    """Selects one image's instances as `SetSelector` does; what is below the threshold scores 0.

    Args:
        selector: says how.
        class_logits, mask_logits, objectness_logits: see `SetSelector.__call__`.
        score_threshold: None for the selector's.
    """
    threshold = selector.class_threshold if score_threshold is None else score_threshold
    best, classes = class_logits.max(-1)
    scores = (best.sigmoid() * objectness_logits.sigmoid()).sqrt()
    masks = mask_logits.sigmoid()
    _, maskness = measure_fixed(masks, selector.mask_threshold)
    above = scores > threshold
    scores = torch.where(above, scores * maskness, 0)
    if selector.nms:
        order, scores = decay_fixed(selector, masks, classes, scores)
    else:
        scores, order = scores.sort(descending=True)
    order, scores = order[: selector.max_detections], scores[: selector.max_detections]
    return FixedInstances(scores, classes[order], masks[order], above.sum())
