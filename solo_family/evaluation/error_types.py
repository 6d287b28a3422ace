"""Classification of predictions and ground-truth masks into types of errors.

The types are TIDE's (arXiv 2008.08115, section 2). docs/error_analysis.md describes how the order
in which they are tested differs.

Shape letters: N predictions, G ground-truth masks.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .coco_results import Result
from .oracle import BACKGROUND_IOU, Overlaps

# The smallest area, in pixels, of a medium and of a large mask.
_MEDIUM, _LARGE = 32**2, 96**2
SIZES = ("small", "medium", "large")


class PredictionType(StrEnum):
    """The type of a prediction: the first in this order that applies."""

    CROWD = "crowd"
    CORRECT = "correct"
    DUPLICATE = "duplicate"
    WRONG_CLASS = "wrong class"
    POOR_MASK = "poor mask"
    CLASS_AND_MASK = "class and mask"
    BACKGROUND = "background"


class TruthType(StrEnum):
    """The outcome for a ground-truth mask: the first in this order that applies."""

    CROWD = "crowd"
    FOUND = "found"
    MISTAKEN = "mistaken"
    MISSED = "missed"


@dataclass(frozen=True)
class ErrorTypes:
    """Types of predictions and of ground truth.

    Attributes:
        predictions: str [N], a `PredictionType` each.
        targets: int64 [N], the id of the annotation that a type refers to; 0 for none.
        prediction_sizes: str [N], of `SIZES`: the target's size or, without a target, the mask's
            own.
        truths: str [G], a `TruthType` each; the annotation of id i is at index i - 1.
        truth_sizes: str [G].
    """

    predictions: np.ndarray
    targets: np.ndarray
    prediction_sizes: np.ndarray
    truths: np.ndarray
    truth_sizes: np.ndarray


def find_error_types(
    evaluation: COCOeval, truth: COCO, results: list[Result], overlaps: Overlaps
) -> ErrorTypes:
    """Determine the type of each prediction and the outcome for each ground-truth mask.

    Args:
        evaluation: the evaluation of these results, at the one threshold that decides what is
            correct.
        truth: result of `read_truth`.
        results: the N predictions.
        overlaps: the overlaps of the predictions with the ground truth.
    """
    annotations = truth.dataset["annotations"]
    matches = _matches(evaluation, len(results))
    # Index 0 stands for no annotation.
    is_crowd = np.array([False, *(bool(a["iscrowd"]) for a in annotations)])
    threshold = evaluation.params.iouThrs[0]
    same, other = overlaps.same_class, overlaps.other_class
    rules = [
        (PredictionType.CROWD, is_crowd[matches], np.zeros_like(matches)),
        (PredictionType.CORRECT, matches > 0, matches),
        (PredictionType.DUPLICATE, same.ious >= threshold, same.truth_ids),
        (PredictionType.WRONG_CLASS, other.ious >= threshold, other.truth_ids),
        (PredictionType.POOR_MASK, same.ious >= BACKGROUND_IOU, same.truth_ids),
        (PredictionType.CLASS_AND_MASK, other.ious >= BACKGROUND_IOU, other.truth_ids),
    ]
    conditions = [condition for _, condition, _ in rules]
    types = np.select(conditions, [kind.value for kind, _, _ in rules], PredictionType.BACKGROUND)
    targets = np.select(conditions, [target for _, _, target in rules], 0)

    truth_areas = np.array([0.0, *(a["area"] for a in annotations)])
    # One by one: pycocotools' call for many takes at most 255.
    own_areas = np.array([mask_util.area(result["segmentation"]) for result in results], float)
    areas = np.where(targets > 0, truth_areas[targets], own_areas)
    return ErrorTypes(
        predictions=types,
        targets=targets,
        prediction_sizes=_sizes(areas),
        truths=_truth_types(types, targets, is_crowd),
        truth_sizes=_sizes(truth_areas[1:]),
    )


def _matches(evaluation: COCOeval, num_results: int) -> np.ndarray:
    """Return int64 [N]: the id of the annotation that COCO matched, 0 for none."""
    matches = np.zeros(num_results, np.int64)
    everything = evaluation.params.areaRng[evaluation.params.areaRngLbl.index("all")]
    for image in evaluation.evalImgs:
        if image is not None and image["aRng"] == everything:
            indices = np.array(image["dtIds"], np.int64) - 1
            matches[indices] = image["dtMatches"][0].astype(np.int64)
    return matches


def _truth_types(types: np.ndarray, targets: np.ndarray, is_crowd: np.ndarray) -> np.ndarray:
    ids = np.arange(1, len(is_crowd))
    mistakes = np.isin(types, [PredictionType.WRONG_CLASS, PredictionType.POOR_MASK])
    rules = [
        (TruthType.CROWD, is_crowd[1:]),
        (TruthType.FOUND, np.isin(ids, targets[types == PredictionType.CORRECT])),
        (TruthType.MISTAKEN, np.isin(ids, targets[mistakes])),
    ]
    conditions = [condition for _, condition in rules]
    return np.select(conditions, [kind.value for kind, _ in rules], TruthType.MISSED)


def _sizes(areas: np.ndarray) -> np.ndarray:
    return np.array(SIZES)[np.digitize(areas, [_MEDIUM, _LARGE])]
