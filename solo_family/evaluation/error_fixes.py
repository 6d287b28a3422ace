"""Fix the errors of one type, so that evaluation shows what they cost (TIDE, arXiv 2008.08115)."""

import numpy as np
from pycocotools.coco import COCO

from .coco_results import Result, with_annotations
from .error_types import ErrorTypes, PredictionType, TruthType

# The types of errors that cost AP.
ERRORS = (
    PredictionType.WRONG_CLASS,
    PredictionType.POOR_MASK,
    PredictionType.CLASS_AND_MASK,
    PredictionType.DUPLICATE,
    PredictionType.BACKGROUND,
    TruthType.MISSED,
)


def fix_errors(
    error: str, truth: COCO, results: list[Result], types: ErrorTypes
) -> tuple[COCO, list[Result]]:
    """Return ground truth and predictions without the errors of one type.

    A prediction with a wrong class or a poor mask is fixed if its ground-truth mask has no correct
    prediction, and no other prediction with the same error on that mask has a higher score. It gets
    the class and the mask of the ground truth. All other predictions with the error are removed.
    Missed masks are removed from the ground truth.

    At the single IoU threshold of the analysis, the mask of the ground truth counts as much as a
    mask that is just good enough, and all other matches stay the same.

    Args:
        error: one of `ERRORS`.
        truth: result of `read_truth`.
        results: the predictions.
        types: result of `find_error_types` for these predictions.
    """
    if error == TruthType.MISSED:
        kept = types.truths != TruthType.MISSED
        annotations = [a for a, keep in zip(truth.dataset["annotations"], kept) if keep]
        truth = with_annotations(truth.dataset, annotations)
    fixed = _fixable(error, results, types)
    removed = types.predictions == error
    changed = []
    for index, result in enumerate(results):
        if index in fixed:
            target = truth.anns[types.targets[index]]
            result = result | {key: target[key] for key in ("category_id", "segmentation")}
        elif removed[index]:
            continue
        changed.append(result)
    return truth, changed


def _fixable(error: str, results: list[Result], types: ErrorTypes) -> set[int]:
    """Return the indices of the predictions to fix, at most one for each ground-truth mask."""
    if error not in (PredictionType.WRONG_CLASS, PredictionType.POOR_MASK):
        return set()
    best: dict[int, int] = {}
    for index in np.flatnonzero(types.predictions == error).tolist():
        target = int(types.targets[index])
        if types.truths[target - 1] == TruthType.FOUND:
            continue
        if target not in best or results[index]["score"] > results[best[target]]["score"]:
            best[target] = index
    return set(best.values())
