"""The report on instances: AP, classes, confusions, curves and the worst images.

I images, K classes.
"""

from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from pycocotools.coco import COCO

from ..config.output import DEFAULT_CONFIDENCE
from ..evaluation.coco_results import Result, evaluate, read_dataset_truth, read_results
from .average_precision import WeightedPrecision, mean
from .bootstrap import Interval, intervals
from .confidence import ByThreshold, by_threshold
from .confusion import confusion_of_objects
from .matches import Matches, matches_of
from .matrix_picture import add_matrix
from .recall_curves import draw_recall_curves
from .section import (
    Section,
    on_the_interval,
    percent,
    plain,
    plain_interval,
    shown_rows,
    table,
    write_table,
)
from .worst_objects import Judged, write_worst_objects

RESULTS = "coco_instances_results.json"
_MOST_CLASS_CURVES = 8
_NO_OBJECT, _MISSED = "no object", "missed"
_HEADS = ("class", "images", "objects", "AP", "AP50", "precision", "recall", "F1")


def report_objects(
    cfg: CfgNode, dataset: str, inference: Path, folder: Path, given: float | None
) -> Section:
    """Write the files about instances, and return what the report says about them.

    Args:
        cfg: of the run.
        dataset: the name that was evaluated.
        inference: the folder of the predictions.
        folder: for the files.
        given: a confidence threshold to use instead of the one with the best F1.

    Raises:
        DataError: the predictions can't be read, or are not of this dataset.
    """
    truth = read_dataset_truth(dataset)
    results = read_results(str(inference / RESULTS), truth)
    matches = matches_of(evaluate(truth, results, by_size=False))
    thresholds = by_threshold(matches)
    best = thresholds.best()
    used = next(t for t in (given, best, DEFAULT_CONFIDENCE) if t is not None)
    names = [truth.cats[category]["name"] for category in matches.category_ids]
    section = Section(threshold=best)
    precision = WeightedPrecision(matches)
    ap = _figures(precision, matches, names)
    _add_precision(section, ap, best, used, given, thresholds, len(matches.image_ids))
    curves = _curves(precision, matches, names)
    marked = {"best F1": best, "given": given}
    draw_recall_curves(folder / "pr.png", curves, matches.recalls, thresholds, marked)
    section.text.append("![precision and recall](pr.png)")
    _add_classes(section, folder, _class_rows(matches, names, ap, used))
    _add_confusion(section, folder, confusion_of_objects(truth, results, matches, used), names)
    judged = judge(truth, results, matches, used)
    section.text += write_worst_objects(folder / "worst.jpg", cfg, dataset, truth, judged)
    return section


def _figures(
    precision: WeightedPrecision, matches: Matches, names: list[str]
) -> dict[str, Interval]:
    def figures(weights: np.ndarray) -> dict[str, float]:
        values = 100 * precision.average(weights)
        by_class = {f"AP-{place}": mean(values[:, place]) for place in range(len(names))}
        of_50 = {f"AP50-{place}": float(values[0, place]) for place in range(len(names))}
        return {"AP": mean(values), "AP50": mean(values[0]), **by_class, **of_50}

    terms = matches.truth_ids.size + 1000 * len(names)
    return intervals(figures, len(matches.image_ids), terms)


def _add_precision(
    section: Section,
    ap: dict[str, Interval],
    best: float | None,
    used: float,
    given: float | None,
    thresholds: ByThreshold,
    num_images: int,
) -> None:
    both = f"{ap['AP']}, AP50 {ap['AP50']}"
    said = on_the_interval("AP", both, num_images, has_folds=True)
    if np.isnan(ap["AP"].value):
        said = "The validation images have no objects, so that there is no AP."
    section.text += ["## Masks", said]
    section.numbers["images"] = num_images
    for name in ("AP", "AP50"):
        section.numbers[name] = plain_interval(ap[name])
    if best is None:
        section.text.append(
            "No object was found, so no confidence threshold is better than another."
        )
        return
    place = int(thresholds.f1.argmax())
    section.text.append(
        f"**Confidence threshold {best:.3g}** gives the best F1, {percent(thresholds.f1[place])} "
        f"(precision {percent(thresholds.precision[place])}, recall "
        f"{percent(thresholds.recall[place])}, all classes together, at IoU 0.5). It was chosen on "
        "these images, so that new ones will give a little less. AP does not depend on it."
    )
    section.threshold_at = len(section.text)
    if given is not None:
        section.text.append(f"What follows is for the given threshold, {used:.3g}.")
    section.numbers["F1"] = plain(float(thresholds.f1[place]))
    section.numbers["confidence_threshold"] = best


def _curves(
    precision: WeightedPrecision, matches: Matches, names: list[str]
) -> dict[str, np.ndarray]:
    """Return precision by recall: the means over classes, and single classes if they are few."""
    values = precision.precision(np.ones(len(matches.image_ids), np.int64))
    known = ~np.isnan(values[0, :, 0])
    curves = {}
    if known.any():
        for threshold in (0.5, 0.75):
            place = int(np.argmin(abs(matches.iou_thresholds - threshold)))
            curves[f"all, IoU {threshold:g}"] = values[place][known].mean(axis=0)
    if 1 < known.sum() <= _MOST_CLASS_CURVES:
        curves |= {f"{names[k]}, IoU 0.5": values[0, k] for k in np.flatnonzero(known)}
    return curves


def _class_rows(
    matches: Matches, names: list[str], ap: dict[str, Interval], threshold: float
) -> list[tuple[Any, ...]]:
    """Return a row of `_HEADS` for each class."""
    kept = (matches.scores >= threshold) & ~matches.ignored[0]
    rows = []
    for place, name in enumerate(names):
        own = kept & (matches.categories == place)
        objects = int(matches.truths[:, place].sum())
        found, predicted = int(np.count_nonzero(own & matches.right[0])), int(own.sum())
        rows.append(
            (
                name,
                int(np.count_nonzero(matches.truths[:, place])),
                objects,
                ap[f"AP-{place}"],
                ap[f"AP50-{place}"],
                found / predicted if predicted else float("nan"),
                found / objects if objects else float("nan"),
                2 * found / (predicted + objects) if predicted + objects else float("nan"),
            )
        )
    return rows


def _add_classes(section: Section, folder: Path, rows: list[tuple[Any, ...]]) -> None:
    heads = [*_HEADS[:3], *("AP", "AP_low", "AP_high", "AP50", "precision", "recall", "F1")]
    content = [
        [*row[:3], row[3].value, row[3].low, row[3].high, row[4].value, *row[5:]] for row in rows
    ]
    write_table(folder / "classes.csv", heads, content)
    section.numbers["classes"] = [
        dict(zip(heads, [plain(value) for value in row])) for row in content
    ]
    section.text.append("## Classes")
    shown, others = shown_rows(rows, key=3)
    section.text.append(others)
    cells = [
        [
            *map(str, row[:4]),
            "-" if np.isnan(row[4].value) else f"{row[4].value:.1f}",
            *map(percent, row[5:]),
        ]
        for row in shown
    ]
    section.text.append(table(_HEADS, cells))
    section.text.append("All numbers: [classes.csv](classes.csv).")


def _add_confusion(section: Section, folder: Path, matrix: np.ndarray, names: list[str]) -> None:
    rows, columns = [*names, _NO_OBJECT], [*names, _MISSED]
    section.text.append("## Confusions")
    add_matrix(
        section,
        folder / "confusion.csv",
        matrix,
        (rows, columns),
        "objects",
        "How many objects of each class (rows) were taken for each class (columns), at the "
        "confidence threshold; a mask is an object's at an IoU of 0.5 or more. The last column "
        "counts objects that were missed, the last row masks where there is no object.",
    )


def judge(truth: COCO, results: list[Result], matches: Matches, threshold: float) -> list[Judged]:
    """Return for each image what is right and wrong in it at a confidence threshold."""
    kept = (matches.scores >= threshold) & ~matches.ignored[0]
    judged = []
    for index, image in enumerate(matches.image_ids):
        own = np.flatnonzero(kept & (matches.images == index))
        right = matches.right[0][own]
        found = set(matches.truth_ids[0][own][right].tolist())
        objects = [one for one in truth.imgToAnns[image] if not one["iscrowd"]]
        judged.append(
            Judged(
                image_id=image,
                right=[results[number] for number in matches.indices[own][right]],
                wrong=[results[number] for number in matches.indices[own][~right]],
                found=[one for one in objects if one["id"] in found],
                missed=[one for one in objects if one["id"] not in found],
                crowds=[one for one in truth.imgToAnns[image] if one["iscrowd"]],
            )
        )
    return judged
