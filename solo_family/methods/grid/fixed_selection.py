"""Selection whose sizes depend on nothing that an image shows, for graphs that are exported.

C cells of all levels, K classes, N candidates, n instances, h w of the masks.
"""

import torch
from torch import Tensor

from ...errors import ConfigError
from ...modeling.fixed_instances import FixedInstances, decay_fixed, measure_fixed
from .selection import Decode, Selector


def select_fixed(
    selector: Selector,
    cell_scores: Tensor,
    strides: Tensor,
    decode: Decode,
    score_threshold: float | Tensor | None,
) -> FixedInstances:
    """Selects one image's instances as `Selector` does, from a fixed number of candidates.

    They are the N = `pre_nms` best by score, where `Selector` measures all before it leaves any
    out. With at most N above the threshold both give the same.

    Args:
        selector: says how.
        cell_scores, strides, decode: see `Selector.__call__`.
        score_threshold: None for the selector's.

    Raises:
        ConfigError: the NMS is not matrix NMS, the only one that is not sequential.
    """
    if selector.nms_type != "matrix":
        raise ConfigError(
            f"NMS_TYPE is {selector.nms_type!r}; only 'matrix' can be exported. Set it so."
        )
    threshold = selector.score_threshold if score_threshold is None else score_threshold
    num_classes = cell_scores.shape[1]
    above = torch.where(cell_scores > threshold, cell_scores, 0).flatten()
    scores, best = above.topk(min(selector.pre_nms, len(above)))
    cells, classes = best // num_classes, best % num_classes
    masks = decode(cells)
    area, maskness = measure_fixed(masks, selector.mask_threshold)
    large = area > (strides[cells] if selector.area_filter else 0)
    scores = torch.where(large, scores * maskness, 0)
    order, scores = decay_fixed(selector, masks, classes, scores)
    order, scores = order[: selector.post_nms], scores[: selector.post_nms]
    return FixedInstances(scores, classes[order], masks[order], (above > 0).sum())
