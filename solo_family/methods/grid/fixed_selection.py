"""Selection whose sizes depend on nothing that an image shows, for graphs that are exported.

C cells of all levels, K classes, N candidates, n instances, h w of the masks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import ConfigError
from ...ops.matrix_nms import matrix_nms_plain
from ..sparse_inst.selection import SetSelector
from .selection import Decode, Selector


class FixedInstances(NamedTuple):
    """The best n of one image; where there are fewer, the last ones have the score 0.

    Attributes:
        scores: float32 [n], descending.
        classes: int64 [n].
        masks: float32 [n, h, w], probabilities.
        candidates: int64 [], how many were above the threshold. If they are more than N, those that
            scored less were not looked at.
    """

    scores: Tensor
    classes: Tensor
    masks: Tensor
    candidates: Tensor


def stack_fixed(images: Sequence[tuple[Tensor, ...]], names: Sequence[str]) -> dict[str, Tensor]:
    """Returns what is known of the images by name, each with the images as its first dimension."""
    return {name: torch.stack(parts) for name, parts in zip(names, zip(*images))}


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
    area, maskness = measure(masks, selector.mask_threshold)
    large = area > (strides[cells] if selector.area_filter else 0)
    scores = torch.where(large, scores * maskness, 0)
    order, scores = _decayed(selector, masks, classes, scores)
    order, scores = order[: selector.post_nms], scores[: selector.post_nms]
    return FixedInstances(scores, classes[order], masks[order], (above > 0).sum())


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
    _, maskness = measure(masks, selector.mask_threshold)
    above = scores > threshold
    scores = torch.where(above, scores * maskness, 0)
    if selector.nms:
        order, scores = _decayed(selector, masks, classes, scores)
    else:
        scores, order = scores.sort(descending=True)
    order, scores = order[: selector.max_detections], scores[: selector.max_detections]
    return FixedInstances(scores, classes[order], masks[order], above.sum())


def measure(masks: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Returns areas and maskness, the mean probability inside: float32 [N] of masks [N, h, w]."""
    inside = (masks > threshold).float()
    area = inside.sum((1, 2))
    return area, (masks * inside).sum((1, 2)) / area.clamp(min=1)


def _decayed(
    selector: Selector | SetSelector, masks: Tensor, classes: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor]:
    return matrix_nms_plain(
        masks > selector.mask_threshold,
        classes,
        scores,
        selector.nms_kernel,
        selector.nms_sigma,
        selector.class_agnostic,
    )
