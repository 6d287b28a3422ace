"""Draw the images with the worst predictions of objects, with their ground truth beside."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from ..data.formats.own_records import dataset_records
from ..data.loading.images import Reading, read_image
from ..errors import DataError
from ..evaluation.coco_results import Result
from .figures import RIGHT, WRONG
from .sheet import Drawn, Row, shrunk, write_sheet

MOST_IMAGES = 8
# Objects of an image that are drawn, mistakes first. The report says where there are more.
MOST_OBJECTS = 2000
_MOST_LABELS = 25
_CROWD = "#808080"


@dataclass(frozen=True)
class Judged:
    """An image's predictions above the confidence threshold, and its ground truth.

    Attributes:
        image_id: of the image.
        right: predictions that have found an object, at IoU 0.5.
        wrong: the others.
        found: annotations that were found.
        missed: the others.
        crowds: annotations that don't count.
    """

    image_id: Any
    right: Sequence[Result]
    wrong: Sequence[Result]
    found: Sequence[dict[str, Any]]
    missed: Sequence[dict[str, Any]]
    crowds: Sequence[dict[str, Any]]

    @property
    def num_errors(self) -> int:
        """How many objects were missed, and predictions wrong."""
        return len(self.missed) + len(self.wrong)

    @property
    def f1(self) -> float:
        """F1, 0 to 1; 1 if there is nothing, and nothing was predicted."""
        total = 2 * len(self.right) + self.num_errors
        return 2 * len(self.right) / total if total else 1.0


def worst_first(judged: Sequence[Judged]) -> list[Judged]:
    """Return the images with errors, those with the lowest F1 and then the most errors first."""
    wrong = [one for one in judged if one.num_errors]
    return sorted(wrong, key=lambda one: (one.f1, -one.num_errors))


def write_worst_objects(
    path: Path,
    cfg: CfgNode,
    dataset: str,
    truth: COCO,
    judged: Sequence[Judged],
) -> list[str]:
    """Draw the worst images on one sheet, and return what the report says about it."""
    chosen = worst_first(judged)
    if not chosen:
        return ["## Worst images", "No image has a mistake at this confidence threshold."]
    files = {record["image_id"]: record["file_name"] for record in dataset_records(dataset)}
    reading = Reading.from_config(cfg)
    names = {i: one["name"] for i, one in truth.cats.items()} if len(truth.cats) > 1 else {}
    rows: list[Row] = []
    unread: list[str] = []
    for one in chosen:
        if len(rows) == MOST_IMAGES:
            break
        try:
            image = read_image(files[one.image_id], reading.image_format, reading)
        except (DataError, KeyError) as error:
            unread.append(str(error))
            continue
        name = Path(files[one.image_id]).name
        rows.append(_row(f"{name}: F1 {100 * one.f1:.0f}", one, reading.picture(image), names))
    text = ["## Worst images"]
    if rows:
        legend = {"found, or right": RIGHT, "missed, or wrong": WRONG}
        if any(one.crowds for one in chosen[:MOST_IMAGES]):
            legend["crowd, not counted"] = _CROWD
        titles = ("truth", "predicted")
        write_sheet(path, rows, titles, columns=2 if len(rows) > 1 else 1, legend=legend)
        text += [
            f"Of {len(judged)} images {len(chosen)} have a mistake at the confidence threshold. "
            f"These have the lowest F1; the truth is on the left, the prediction on the right.",
            f"![worst images]({path.name})",
        ]
        if any(_most(one) > MOST_OBJECTS for one in chosen):
            text.insert(
                -1,
                f"Of an image with more than {MOST_OBJECTS} objects so many are drawn, mistakes "
                "first; the others look as if nothing was there.",
            )
    text += [f"Not drawn: {reason}" for reason in unread[:MOST_IMAGES]]
    return text


def _most(one: Judged) -> int:
    """Return how many masks the fuller one of an image's two pictures would have."""
    truth = len(one.found) + len(one.missed) + len(one.crowds)
    return max(truth, len(one.right) + len(one.wrong))


def _row(caption: str, one: Judged, picture: Any, names: dict[Any, str]) -> Row:
    small = shrunk(picture)
    truth, predicted = Drawn(small.copy()), Drawn(small.copy())
    for crowd in one.crowds[:MOST_OBJECTS]:
        _add(truth, crowd, _CROWD, "")
    # The gravest have the labels, of which a crowd's picture has room for few.
    missed = sorted(one.missed, key=lambda a: -float(mask_util.area(a["segmentation"])))
    wrong = sorted(one.wrong, key=lambda p: -p["score"])
    _add_all(truth, missed, one.found, [names.get(a["category_id"], "") for a in missed])
    _add_all(
        predicted,
        wrong,
        one.right,
        [f"{names.get(p['category_id'], '')} {p['score']:.2f}".strip() for p in wrong],
    )
    counts = f"{len(one.found)} found, {len(one.missed)} missed, {len(one.wrong)} wrong"
    return Row(f"{caption}, {counts}", (truth, predicted))


def _add_all(
    drawn: Drawn,
    errors: Sequence[dict[str, Any]],
    others: Sequence[dict[str, Any]],
    labels: Sequence[str],
) -> None:
    """Draw mistakes over what is right; of many objects the mistakes first."""
    errors = errors[:MOST_OBJECTS]
    for one in others[: MOST_OBJECTS - len(errors)]:
        _add(drawn, one, RIGHT, "")
    for place, (one, label) in enumerate(zip(errors, labels)):
        _add(drawn, one, WRONG, label if place < _MOST_LABELS else "")


def _add(drawn: Drawn, one: dict[str, Any], colour: str, label: str) -> None:
    drawn.add(mask_util.decode(one["segmentation"]), colour, label)
