"""The report on semantic labels and panoptic segments: classes, confusions, the worst images.

I images, K classes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from .average_precision import mean
from .bootstrap import intervals
from .label_images import LabelImage, class_names_of, panoptic_images, semantic_images
from .matrix_picture import add_matrix
from .pixels import Counted, class_ious, class_qualities, count, image_scores
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
from .worst_labels import write_worst_labels

SEMANTIC, PANOPTIC = "sem_seg_predictions.json", "panoptic_predictions.json"
_NO_CLASS = "no class"
Figures = Callable[[np.ndarray], dict[str, float]]


def report_semantic(
    cfg: CfgNode, dataset: str, inference: Path, folder: Path, prefix: str
) -> Section:
    """Write the files about semantic labels, and return what the report says about them.

    Args:
        cfg: of the run.
        dataset: the name that was evaluated.
        inference: the folder of the predictions.
        folder: for the files.
        prefix: of their names.

    Raises:
        DataError: predictions or labels can't be read.
    """
    names = class_names_of(dataset)

    def images() -> Iterator[LabelImage]:
        return semantic_images(dataset, inference / SEMANTIC)

    counted = count(images(), len(names))

    def figures(weights: np.ndarray) -> dict[str, float]:
        pixels = np.tensordot(weights, counted.pixels, 1)
        right, true, _ = pixels
        shares = {"mIoU": mean(class_ious(pixels)), "pACC": right.sum() / max(1, true.sum())}
        return {name: 100 * float(value) for name, value in shares.items()}

    section = _beginning("Pixels", "mIoU", figures, counted)
    ious = class_ious(counted.pixels.sum(0))
    right, true, predicted = counted.pixels.sum(0)
    with np.errstate(invalid="ignore"):
        columns = {
            "IoU": ious,
            "precision": right / predicted.astype(float),
            "recall": right / true.astype(float),
        }
    _add_classes(section, folder, prefix, names, counted, columns)
    _add_confusion(section, folder, prefix, counted, names)
    scores = image_scores(counted, panoptic=False)
    section.text += write_worst_labels(
        folder / f"{prefix}worst.jpg", cfg, dataset, images, scores, "mIoU"
    )
    return section


def report_panoptic(
    cfg: CfgNode, dataset: str, inference: Path, folder: Path, prefix: str
) -> Section:
    """Write the files about panoptic segments; see `report_semantic`."""
    names = class_names_of(dataset)

    def images() -> Iterator[LabelImage]:
        return panoptic_images(dataset, inference / PANOPTIC)

    counted = count(images(), len(names))

    def figures(weights: np.ndarray) -> dict[str, float]:
        values = class_qualities(np.tensordot(weights, counted.quality, 1))
        return {name: 100 * mean(of_all) for name, of_all in zip(("PQ", "SQ", "RQ"), values)}

    section = _beginning("Segments", "PQ", figures, counted)
    qualities = class_qualities(counted.quality.sum(0))
    columns = dict(zip(("PQ", "SQ", "RQ"), qualities)) | {
        "IoU of pixels": class_ious(counted.pixels.sum(0))
    }
    _add_classes(section, folder, prefix, names, counted, columns)
    _add_confusion(section, folder, prefix, counted, names)
    scores = image_scores(counted, panoptic=True)
    section.text += write_worst_labels(
        folder / f"{prefix}worst.jpg", cfg, dataset, images, scores, "PQ"
    )
    return section


def _beginning(title: str, main: str, figures: Figures, counted: Counted) -> Section:
    found = intervals(figures, len(counted.files), counted.pixels.size)
    others = ", ".join(f"{name} {one}" for name, one in found.items() if name != main)
    value = f"{found[main]}, {others}"
    text = on_the_interval(main, value, len(counted.files), has_folds=False)
    numbers: dict[str, Any] = {"images": len(counted.files)}
    for name, one in found.items():
        numbers[name] = plain_interval(one)
    return Section([f"## {title}", text], numbers)


def _add_classes(
    section: Section,
    folder: Path,
    prefix: str,
    names: list[str],
    counted: Counted,
    columns: dict[str, np.ndarray],
) -> None:
    """Write and show a table of the classes, those with the lowest first column if it is long."""
    occurs = np.count_nonzero(counted.pixels[:, 1], axis=0).tolist()
    heads = ["class", "images", *columns]
    values = [column.tolist() for column in columns.values()]
    rows = [list(row) for row in zip(names, occurs, *values)]
    write_table(folder / f"{prefix}classes.csv", heads, rows)
    section.numbers["classes"] = [dict(zip(heads, map(plain, row))) for row in rows]
    section.text.append("### Classes" if prefix else "## Classes")
    shown, others = shown_rows(rows, key=2)
    section.text.append(others)
    cells = [[row[0], str(row[1]), *map(percent, row[2:])] for row in shown]
    section.text.append(table(heads, cells))
    section.text.append(f"All numbers: [{prefix}classes.csv]({prefix}classes.csv).")


def _add_confusion(
    section: Section, folder: Path, prefix: str, counted: Counted, names: list[str]
) -> None:
    matrix, columns = counted.confusion, [*names, _NO_CLASS]
    if not matrix[:, -1].any():
        matrix, columns = matrix[:, :-1], names
    section.text.append("### Confusions" if prefix else "## Confusions")
    add_matrix(
        section,
        folder / f"{prefix}confusion.csv",
        matrix,
        (names, columns),
        "pixels",
        "How many pixels of each class (rows) were taken for each class (columns).",
    )
