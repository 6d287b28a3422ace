"""Analysis of the errors in a model's predictions, as numbers."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..progress import Progress
from .coco_results import Result, average_precision, evaluate
from .error_fixes import ERRORS, fix_errors
from .error_types import SIZES, ErrorTypes, PredictionType, TruthType, find_error_types
from .oracle import Overlaps, find_overlaps, with_true_classes, with_true_masks

# Evaluated at COCO's ten thresholds.
AS_PREDICTED, TRUE_MASKS, TRUE_CLASSES, TRUE_BOTH = ORACLES = (
    "as predicted",
    "true masks",
    "true classes",
    "true masks and classes",
)
# COCO's names of AP, and the threshold and the size that each averages over.
METRICS: dict[str, dict[str, Any]] = {
    "AP": {},
    "AP50": {"iou_threshold": 0.5},
    "AP75": {"iou_threshold": 0.75},
    "APs": {"size": "small"},
    "APm": {"size": "medium"},
    "APl": {"size": "large"},
}
_EVALUATIONS = len(ORACLES) + 1 + len(ERRORS)


def analyse_errors(truth: COCO, results: list[Result], iou_threshold: float) -> dict[str, Any]:
    """Evaluate oracles, classify errors by type, and evaluate how much AP each type costs.

    Args:
        truth: result of `read_truth`.
        results: result of `read_results`.
        iou_threshold: the lowest IoU of a correct mask, above 0.1 and at most 1.

    Returns:
        The content of errors.json, which docs/error_analysis.md describes. AP is in percent, and
        None if there is no ground truth.
    """
    overlaps = find_overlaps(truth, results)
    with Progress(total=_EVALUATIONS, desc="evaluations", unit="run") as progress:
        oracles = _evaluate_oracles(truth, results, overlaps, progress)
        baseline = evaluate(truth, results, iou_threshold=iou_threshold)
        progress.update()
        types = find_error_types(baseline, truth, results, overlaps)
        fixed = {}
        for error in ERRORS:
            fixed[error] = _evaluate_fixed(error, truth, results, types, iou_threshold)
            progress.update()
    counts = _Counts(truth, results, types)
    return {
        "iou_threshold": iou_threshold,
        "images": len(truth.imgs),
        "oracles": {
            name: {key: average_precision(oracle, **what) for key, what in METRICS.items()}
            for name, oracle in oracles.items()
        },
        "AP_at_threshold": _by_size(baseline),
        "gain": {error: _gains(fixed[error], baseline) for error in ERRORS},
        "predictions": counts.predictions(),
        "ground_truth": counts.truths(),
        "categories": [
            {
                "id": category,
                "name": truth.cats[category]["name"],
                "oracles": {
                    name: average_precision(oracle, category=category)
                    for name, oracle in oracles.items()
                },
                "AP_at_threshold": _by_size(baseline, category),
                "gain": {error: _gains(fixed[error], baseline, category) for error in ERRORS},
                "predictions": counts.predictions(category),
                "ground_truth": counts.truths(category),
            }
            for category in sorted(truth.cats)
        ],
    }


def _evaluate_oracles(
    truth: COCO, results: list[Result], overlaps: Overlaps, progress: Progress
) -> dict[str, COCOeval]:
    masks = with_true_masks(results, overlaps, truth)
    replaced = {
        AS_PREDICTED: results,
        TRUE_MASKS: masks,
        TRUE_CLASSES: with_true_classes(results, overlaps, truth),
        TRUE_BOTH: with_true_classes(masks, overlaps, truth),
    }
    evaluations = {}
    for name in ORACLES:
        evaluations[name] = evaluate(truth, replaced[name])
        progress.update()
    return evaluations


def _evaluate_fixed(
    error: str, truth: COCO, results: list[Result], types: ErrorTypes, iou_threshold: float
) -> COCOeval:
    truth, results = fix_errors(error, truth, results, types)
    return evaluate(truth, results, iou_threshold=iou_threshold)


def _by_size(evaluation: COCOeval, category: int | None = None) -> dict[str, float | None]:
    return {
        size: average_precision(evaluation, size=size, category=category)
        for size in ("all", *SIZES)
    }


def _gains(
    fixed: COCOeval, baseline: COCOeval, category: int | None = None
) -> dict[str, float | None]:
    """Return the rise of AP by size; AP rises to 100 if all ground truth was missed and removed."""
    before, after = _by_size(baseline, category), _by_size(fixed, category)
    return {size: _difference(after[size], before[size]) for size in before}


def _difference(after: float | None, before: float | None) -> float | None:
    if before is None:
        return None
    return (100.0 if after is None else after) - before


class _Counts:
    """The numbers of errors by type, category and size."""

    def __init__(self, truth: COCO, results: list[Result], types: ErrorTypes) -> None:
        annotations = truth.dataset["annotations"]
        self._predictions = Counter(
            zip(
                (result["category_id"] for result in results),
                types.predictions.tolist(),
                types.prediction_sizes.tolist(),
            )
        )
        self._truths = Counter(
            zip(
                (annotation["category_id"] for annotation in annotations),
                types.truths.tolist(),
                types.truth_sizes.tolist(),
            )
        )

    def predictions(self, category: int | None = None) -> dict[str, dict[str, int]]:
        """Return the numbers of predictions by type and size, of a category or of all."""
        return _table(self._predictions, PredictionType, category)

    def truths(self, category: int | None = None) -> dict[str, dict[str, int]]:
        """Return the numbers of ground-truth masks by outcome and size, of a category or of all."""
        return _table(self._truths, TruthType, category)


def _table(
    counter: Counter[tuple[int, str, str]], types: Iterable[str], category: int | None
) -> dict[str, dict[str, int]]:
    """Return numbers by type, then by size."""
    table = {}
    for kind in types:
        sizes = dict.fromkeys(SIZES, 0)
        for (of_category, of_kind, size), number in counter.items():
            if of_kind == kind and category in (None, of_category):
                sizes[size] += number
        table[str(kind)] = {"all": sum(sizes.values()), **sizes}
    return table
