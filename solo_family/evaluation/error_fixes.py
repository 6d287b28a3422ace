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


def mend(
    error: str, truth: COCO, results: list[Result], types: ErrorTypes
) -> tuple[COCO, list[Result]]:
    """Return ground truth and predictions without the errors of one type.

    A prediction of a wrong class or with a poor mask becomes correct if it has the highest score
    among those on a mask that no prediction finds. All other erroneous predictions can't become
    correct, and are left out. Missed masks are left out of the ground truth.

    A fixed prediction gets class and mask of its target. At the one threshold of the analysis that
    counts as much as a mask that is just good enough, and it leaves all other matches unchanged.
    """
    if error == TruthType.MISSED:
        kept = types.truths != TruthType.MISSED
        annotations = [a for a, keep in zip(truth.dataset["annotations"], kept) if keep]
        truth = with_annotations(truth.dataset, annotations)
    mended = _mendable(error, results, types)
    removed = types.predictions == error
    changed = []
    for index, result in enumerate(results):
        if index in mended:
            target = truth.anns[types.targets[index]]
            result = result | {key: target[key] for key in ("category_id", "segmentation")}
        elif removed[index]:
            continue
        changed.append(result)
    return truth, changed


def _mendable(error: str, results: list[Result], types: ErrorTypes) -> set[int]:
    """Return the indices of predictions that become correct: at most one for each target."""
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
