"""Compute InstanceFCN's results in numpy from windows of every scale (arXiv 1603.08678, section 4).

N windows, m side of a window in cells, H W of the picture.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .masks import decay_factors, mask_iou
from .results import PredictedInstances

# Stride, in pixels of the picture, at which matrix NMS compares masks where `model.json` has none.
_NMS_STRIDE = 4


@dataclass(frozen=True)
class Windows:
    """Windows of one picture.

    Attributes:
        scores: float32 [N].
        classes: int64 [N].
        class_scores: float32 [N], the probability of that class.
        boxes: float32 [N, 4], tight around the masks, x0 y0 x1 y1 in pixels of the picture.
        regions: float32 [N, 4], the windows themselves, likewise.
        masks: float32 [N, m, m], probabilities.
    """

    scores: np.ndarray
    classes: np.ndarray
    class_scores: np.ndarray
    boxes: np.ndarray
    regions: np.ndarray
    masks: np.ndarray

    def __getitem__(self, index: np.ndarray) -> "Windows":
        return Windows(*(value[index] for value in vars(self).values()))

    @staticmethod
    def cat(parts: list["Windows"]) -> "Windows":
        """Return the windows of several groups as one group."""
        return Windows(
            *(np.concatenate(values) for values in zip(*(vars(p).values() for p in parts)))
        )


def windows_of(outputs: dict[str, np.ndarray], cell_size: tuple[float, float]) -> Windows:
    """Return the windows of one scale, from the first image's outputs.

    Args:
        outputs: the outputs of the graph.
        cell_size: height and width of a cell of its map, in pixels of the picture.
    """
    found = outputs["scores"][0] > 0
    values = {name: value[0][found] for name, value in outputs.items() if name != "candidates"}
    side = values["masks"].shape[-1]
    cell = np.array([cell_size[1], cell_size[0]] * 2, np.float32)
    corners = values["centers"][:, ::-1] - side // 2
    regions = np.concatenate([corners, corners + side], axis=1).astype(np.float32) * cell
    return Windows(
        scores=values["scores"],
        classes=values["classes"],
        class_scores=values["class_scores"],
        boxes=values["boxes"] * cell,
        regions=regions,
        masks=values["masks"],
    )


def window_results(
    scales: list[Windows],
    size: tuple[int, int],
    thresholds: dict[str, float],
    settings: dict[str, Any],
) -> PredictedInstances:
    """Keep the best windows of all scales, and enlarge their masks.

    Args:
        scales: the windows of each.
        size: (H, W).
        thresholds: `mask`, the probability above which a pixel is in a mask, and `nms`, the IoU of
            boxes above which the lower-scored one is dropped.
        settings: those of `methods.instance_fcn.proposals.ProposalSelector`, and its `nms_stride`.
    """
    windows = Windows.cat(scales)
    order = np.argsort(-windows.scores, kind="stable")
    windows = windows[order[: settings["pre_nms"] or None]]
    limit, scores = settings["max_proposals"], windows.scores
    if settings["nms_type"] == "box":
        kept = _box_nms(windows.boxes, thresholds["nms"])[:limit]
        scores = scores[kept]
    else:
        stride = settings.get("nms_stride", _NMS_STRIDE)
        small = (-(-size[0] // stride), -(-size[1] // stride))
        masks = _paste(windows, small, thresholds["mask"], 1 / stride)
        iou = mask_iou(masks, masks)
        decayed = scores * decay_factors(iou, settings["nms_kernel"], settings["nms_sigma"])
        kept = np.argsort(-decayed, kind="stable")[:limit]
        scores = decayed[kept]
    windows = windows[kept]
    masks = _paste(windows, size, thresholds["mask"])
    return PredictedInstances(
        (scores * windows.class_scores).astype(np.float32), windows.classes, masks
    )


def _box_nms(boxes: np.ndarray, threshold: float) -> np.ndarray:
    """Return the indices that NMS of boxes keeps, by descending score.

    A box is dropped if its IoU with a kept box of a higher score is above the threshold.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left = np.arange(len(boxes))
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        sides = np.minimum(boxes[best, 2:], boxes[left, 2:]) - np.maximum(
            boxes[best, :2], boxes[left, :2]
        )
        intersections = sides.clip(min=0).prod(axis=1)
        unions = areas[best] + areas[left] - intersections
        # Compared in float32, in which an IoU of 0.8 is not above a threshold of 0.8.
        left = left[(intersections / unions).astype(np.float32) <= np.float32(threshold)]
    return np.array(kept, np.int64)


def _paste(
    windows: Windows, size: tuple[int, int], threshold: float, zoom: float = 1.0
) -> np.ndarray:
    """Enlarge masks bilinearly to the regions of their windows: bool [N, *size]."""
    result = np.zeros((len(windows.masks), *size), bool)
    for binary, mask, region in zip(result, windows.masks, windows.regions * np.float32(zoom)):
        x0, y0, x1, y1 = region.tolist()
        rows, columns = (
            slice(max(0, int(np.floor(low)) - 1), max(0, min(limit, int(np.ceil(high)) + 1)))
            for low, high, limit in ((y0, y1, size[0]), (x0, x1, size[1]))
        )
        across_rows = _interpolation(rows, y0, y1, len(mask))
        across_columns = _interpolation(columns, x0, x1, len(mask))
        binary[rows, columns] = across_rows @ mask @ across_columns.T >= np.float32(threshold)
    return result


def _interpolation(pixels: slice, low: float, high: float, side: int) -> np.ndarray:
    """Return the weights, float32 [pixels, m], of a mask's cells stretched from `low` to `high`."""
    centers = np.arange(pixels.start, pixels.stop) + 0.5
    position = (centers - low) / (high - low) * side - 0.5
    weights = 1 - np.abs(position[:, None] - np.arange(side))
    return weights.clip(min=0).astype(np.float32)
