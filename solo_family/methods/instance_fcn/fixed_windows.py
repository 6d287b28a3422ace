"""A fixed number of InstanceFCN's windows, for graphs that are exported (arXiv 1603.08678, 4).

C channels, N windows, k relative positions per axis, m side of a window, H W cells of the map with
its padding.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ...ops import mask_boxes
from .assemble import assemble, every_center, soft_masks
from .head import MaskPooledClassifier, mask_average_pool
from .proposals import ProposalSelector

# How many are kept where the selector keeps all, whose number depends on the size of the image.
FIXED_WINDOWS = 500


class FixedWindows(NamedTuple):
    """The best N windows of one image before NMS; where there are fewer, the last ones score 0.

    Attributes:
        scores: float32 [N], descending.
        classes: int64 [N]; 0 without a classifier.
        class_scores: float32 [N], the probability of that class; 1 without a classifier.
        centers: int64 [N, 2], row and column on the map.
        boxes: float32 [N, 4], tight around the masks, x0 y0 x1 y1 in cells of the map.
        masks: float32 [N, m, m], probabilities, which outside the map repeat its border.
        candidates: int64 [], how many windows there are. If they are more than N, those that
            scored less are missing.
    """

    scores: Tensor
    classes: Tensor
    class_scores: Tensor
    centers: Tensor
    boxes: Tensor
    masks: Tensor
    candidates: Tensor


def slide_fixed(
    selector: ProposalSelector,
    classifier: MaskPooledClassifier | None,
    score_maps: Tensor,
    objectness_logits: Tensor,
    features: Tensor,
    map_size: Tensor,
    score_threshold: float | Tensor | None = None,
) -> FixedWindows:
    """Scores every window of one image as `ProposalSelector.slide` does, and returns the best.

    Args:
        selector: says how.
        classifier: None for class-agnostic proposals.
        score_maps: logits [k^2, H, W].
        objectness_logits: [H, W].
        features: [C, H, W], for the classifier.
        map_size: int64 [2], rows and columns of the map that are not padding.
        score_threshold: windows score more; None for 0.
    """
    m, size = selector.window_size, (map_size[0], map_size[1])
    score_maps = score_maps.float()
    height, width = objectness_logits.shape
    centers = every_center((height, width), score_maps.device)
    soft = soft_masks(score_maps, centers, m, size)
    hard = (soft > selector.mask_threshold).float()
    area = hard.sum((1, 2))
    scores = objectness_logits.float().sigmoid().flatten()
    if selector.score == "product":
        scores = scores * (soft * hard).sum((1, 2)) / area.clamp(min=1)
    on_map = (centers < map_size).all(dim=1)
    threshold = 0.0 if score_threshold is None else score_threshold
    above = on_map & (area > 0) & (scores > threshold)
    count = selector.pre_nms or FIXED_WINDOWS
    # Small maps have fewer windows: there are always as many that score 0.
    scores = torch.cat([torch.where(above, scores, 0), scores.new_zeros(count)])
    scores, best = scores.topk(count)
    best = best.clamp(max=height * width - 1)
    centers = centers[best]
    corners = (centers - m // 2).flip(1).repeat(1, 2)
    boxes = mask_boxes(hard[best].to(torch.uint8)) + corners
    classes, class_scores = torch.zeros_like(best), torch.ones_like(scores)
    if classifier is not None:
        pooled = mask_average_pool(features.float(), centers, soft[best])
        logits = classifier.linear(pooled.to(classifier.linear.weight.dtype))
        class_scores, classes = logits.float().softmax(dim=1).max(dim=1)
    masks = assemble(score_maps, centers, m, size)[0].sigmoid()
    return FixedWindows(scores, classes, class_scores, centers, boxes, masks, above.sum())
