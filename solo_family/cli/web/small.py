"""Predictions in a form that takes little memory, so that a page can keep those of many pictures.

N instances, K classes, H W of the picture.
"""

from typing import Any

import torch
from detectron2.structures import BitMasks, Instances

from ...data.loading.windows import Window
from ...predictor.predictions import Predictions
from ...tiling.merge_semantic import LabelMap
from ...tiling.runs import RunMasks, Runs, runs_of


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
        small["sem_seg"] = LabelMap(scores.argmax(dim=0).short(), len(scores))
    if "panoptic_seg" in small:
        segments, infos = small["panoptic_seg"]
        small["panoptic_seg"] = segments.int(), infos
    return small


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
