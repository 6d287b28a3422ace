"""Predictions in a form that takes little memory, so that a page can keep those of many pictures.

N instances, K classes, H W of the picture, h w of one in another size.
"""

from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances

from ...ops.label_maps import class_of_pixels
from ...ops.run_masks import RunMasks
from ...ops.runs import Runs, box_of, fill, runs_of
from ...ops.window import Window
from ...predictor.predictions import Predictions
from ...tiling.merge_semantic import LabelMap


def made_small(predictions: Predictions) -> Predictions:
    """Return predictions with masks as runs, and the class of each pixel in place of scores.

    They are otherwise the same, and can be filtered, drawn and saved in the same ways.

    Args:
        predictions: result of `keep_confident`.
    """
    small = dict(predictions)
    if "instances" in small:
        small["instances"] = _instances(small["instances"])
    if "sem_seg" in small and not isinstance(small["sem_seg"], LabelMap):
        scores = small["sem_seg"]
        small["sem_seg"] = LabelMap(class_of_pixels(scores).short(), len(scores))
    if "panoptic_seg" in small:
        segments, infos = small["panoptic_seg"]
        small["panoptic_seg"] = segments.int(), infos
    return small


def resized(predictions: Predictions, size: tuple[int, int], new: tuple[int, int]) -> Predictions:
    """Return predictions for the picture in another size.

    A pixel has what the pixel at its middle has. An object that is too small for that has one.

    Args:
        predictions: of `made_small`, which may be filtered.
        size: (H, W).
        new: (h, w).
    """
    if size == new:
        return predictions
    rows, columns = (_places(*lengths) for lengths in zip(size, new))
    other = dict(predictions)
    if "instances" in other:
        instances = other["instances"]
        masks = [_resized(mask, size[0], rows, columns) for mask in instances.pred_masks.masks]
        packed = RunMasks(masks, new)
        fields = {"pred_masks": packed, "pred_boxes": Boxes(packed.boxes)}
        other["instances"] = Instances(new, **instances.get_fields() | fields)
    index = np.ix_(rows, columns)
    if "sem_seg" in other:
        given = other["sem_seg"]
        other["sem_seg"] = LabelMap(given.labels[index], given.shape[0])
    if "panoptic_seg" in other:
        segments, infos = other["panoptic_seg"]
        other["panoptic_seg"] = segments[index], infos
    return other


def _places(length: int, new: int) -> np.ndarray:
    """Return the pixels of a side that are at the middles of those of one of another length."""
    return ((np.arange(new) + 0.5) * length / new).astype(np.int64)


def _resized(mask: Runs, height: int, rows: np.ndarray, columns: np.ndarray) -> Runs:
    """Return a mask of only some rows and columns, which are ascending."""
    box = box_of(mask, height)
    top, bottom = np.searchsorted(rows, [box.top, box.bottom]).tolist()
    left, right = np.searchsorted(columns, [box.left, box.right]).tolist()
    inside = rows[top:bottom, None] - box.top, columns[None, left:right] - box.left
    pixels = fill(mask, box, height)[inside]
    window = Window(top, left, bottom, right)
    if not pixels.any() and mask.area:
        y = min(int(np.searchsorted(rows, (box.top + box.bottom) // 2)), len(rows) - 1)
        x = min(int(np.searchsorted(columns, (box.left + box.right) // 2)), len(columns) - 1)
        pixels, window = np.ones((1, 1), bool), Window(y, x, y + 1, x + 1)
    return runs_of(torch.from_numpy(np.ascontiguousarray(pixels))[None], window, len(rows))[0]


def _instances(instances: Instances) -> Instances:
    masks: Any = instances.pred_masks
    if isinstance(masks, RunMasks):
        return instances
    if isinstance(masks, BitMasks):
        masks = masks.tensor
    size: tuple[int, int] = instances.image_size
    boxes = BitMasks(masks.bool()).get_bounding_boxes().tensor.int().tolist()
    runs = [_runs(mask.bool(), box, size[0]) for mask, box in zip(masks, boxes, strict=True)]
    return Instances(size, **instances.get_fields() | {"pred_masks": RunMasks(runs, size)})


def _runs(mask: torch.Tensor, box: list[int], height: int) -> Runs:
    """Return the runs of a mask, bool [H, W]; what is outside of its box is empty."""
    left, top, right, bottom = box
    return runs_of(mask[None, top:bottom, left:right], Window(top, left, bottom, right), height)[0]
