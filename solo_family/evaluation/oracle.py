"""AP with ground-truth masks, or ground-truth classes (SOLO, arXiv 1912.04488, "Error Analysis").

Shape letters: N predictions, n of them in one image, with g ground-truth masks.
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from ..progress import Progress
from .coco_results import Result

# Below this IoU a prediction counts as background (TIDE, arXiv 2008.08115, section 2).
BACKGROUND_IOU = 0.1


class Overlap(NamedTuple):
    """For every prediction, the ground truth with the highest IoU among some candidates.

    Attributes:
        truth_ids: int64 [N], annotation ids; 0 where the prediction overlaps none.
        ious: float64 [N], in [0, 1].
    """

    truth_ids: np.ndarray
    ious: np.ndarray


class Overlaps(NamedTuple):
    """The overlaps with ground truth of any class, of the prediction's, and of the others."""

    any_class: Overlap
    same_class: Overlap
    other_class: Overlap


def find_overlaps(truth: COCO, results: list[Result]) -> Overlaps:
    """Compare every prediction with all ground truth of its image except crowds.

    Among equal IoUs the earlier annotation is chosen.
    """
    indices_of: dict[int, list[int]] = defaultdict(list)
    for index, result in enumerate(results):
        indices_of[result["image_id"]].append(index)
    overlaps = Overlaps(
        *(Overlap(np.zeros(len(results), np.int64), np.zeros(len(results))) for _ in range(3))
    )
    for image_id, indices in Progress(indices_of.items(), "overlaps", unit="image"):
        annotations = [a for a in truth.imgToAnns[image_id] if not a["iscrowd"]]
        if not annotations:
            continue
        ious = mask_util.iou(  # float64 [n, g]
            [results[index]["segmentation"] for index in indices],
            [annotation["segmentation"] for annotation in annotations],
            [0] * len(annotations),
        )
        ids = np.array([annotation["id"] for annotation in annotations])
        classes = np.array([results[index]["category_id"] for index in indices])
        same = classes[:, None] == np.array([a["category_id"] for a in annotations])
        for overlap, allowed in zip(overlaps, (np.ones_like(same), same, ~same)):
            allowed_ious = np.where(allowed, ious, 0)
            best = allowed_ious.max(axis=1)
            overlap.ious[indices] = best
            overlap.truth_ids[indices] = np.where(best > 0, ids[allowed_ious.argmax(axis=1)], 0)
    return overlaps


def with_true_masks(results: list[Result], overlaps: Overlaps, truth: COCO) -> list[Result]:
    """Replace every mask by the ground-truth mask of highest IoU, whatever its class.

    A prediction that overlaps none keeps its own mask.
    """
    return [
        result | {"segmentation": truth.anns[truth_id]["segmentation"]} if truth_id else result
        for result, truth_id in zip(results, overlaps.any_class.truth_ids.tolist())
    ]


def with_true_classes(results: list[Result], overlaps: Overlaps, truth: COCO) -> list[Result]:
    """Replace every class by that of the ground-truth mask of highest IoU.

    A prediction on the background, by `BACKGROUND_IOU`, keeps its own class.
    """
    truth_ids, ious = overlaps.any_class
    return [
        result | {"category_id": truth.anns[truth_id]["category_id"]}
        if iou >= BACKGROUND_IOU
        else result
        for result, truth_id, iou in zip(results, truth_ids.tolist(), ious.tolist())
    ]
