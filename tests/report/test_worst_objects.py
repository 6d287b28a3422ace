"""The sheet of the worst images: every object of a crowd is on it, and labels can be read."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from solo_family.data.formats.coco_json import dataset_truth
from solo_family.data.formats.register import check_datasets
from solo_family.ops.rle import encode_masks
from solo_family.report import sheet, worst_objects
from solo_family.report.figures import WRONG
from solo_family.report.sheet import Drawn, Row, shrunk, write_sheet
from solo_family.report.worst_objects import Judged, write_worst_objects

from ..coco_folder import CocoFolder, noise, rectangle
from ..conftest import tiny_cfg

_ROWS, _COLUMNS, _CELL = 18, 20, 8


def crowd(root: Path) -> tuple[str, Any, Judged]:
    """An image of 360 objects, of which all but ten are found, with ten wrong predictions."""
    folder = CocoFolder(root, {1: "round", 2: "long"})
    corners = [(_CELL * x, _CELL * y) for y in range(_ROWS) for x in range(_COLUMNS)]
    boxes = [
        rectangle(x + 1, y + 1, 5, 5, category_id=1 + place % 2)
        for place, (x, y) in enumerate(corners)
    ]
    folder.add("crowd.png", noise(_CELL * _ROWS, _CELL * _COLUMNS, seed=0), boxes)
    name = folder.write()
    check_datasets([name])
    truth = dataset_truth(name)
    objects = truth.dataset["annotations"]
    wrong = [
        {
            "image_id": objects[0]["image_id"],
            "category_id": 1 + (number >= 5),
            "score": 0.05 + 0.09 * number,
            "segmentation": encode_masks(torch.ones(1, _CELL * _ROWS, _CELL * _COLUMNS) > 0)[0],
        }
        for number in range(10)
    ]
    right = [{**one, "score": 0.9} for one in objects[10:]]
    image = objects[0]["image_id"]
    return name, truth, Judged(image, right, wrong, objects[10:], objects[:10], [])


def sheet_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[tuple[Drawn, ...], list[str]]:
    name, truth, judged = crowd(tmp_path / "data")
    written: list[Row] = []

    def keep(_: Path, rows: Sequence[Row], *rest: Any, **more: Any) -> None:
        written.extend(rows)

    monkeypatch.setattr(worst_objects, "write_sheet", keep)
    text = write_worst_objects(tmp_path / "worst.jpg", tiny_cfg(), name, truth, [judged])
    return tuple(written[0].pictures), text


def test_all_objects_of_a_crowd_are_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An object that is left out looks as if it was neither found nor missed."""
    (truth, _), text = sheet_of(monkeypatch, tmp_path)
    picture = np.asarray(noise(_CELL * _ROWS, _CELL * _COLUMNS, seed=0))
    plain = shrunk(picture[:, :, ::-1])
    scale = plain.shape[0] / (_CELL * _ROWS)
    centres = (np.arange(max(_ROWS, _COLUMNS)) * _CELL + 3.5) * scale
    rows, columns = (centres[:count].astype(int) for count in (_ROWS, _COLUMNS))
    changed = (truth.pixels != plain).any(2)[np.ix_(rows, columns)]
    assert changed.all(), f"{(~changed).sum()} objects are not drawn"
    assert not any("mistakes first" in line for line in text)


def test_a_sheet_with_some_of_the_objects_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worst_objects, "MOST_OBJECTS", 300)
    _, text = sheet_of(monkeypatch, tmp_path)
    assert any("more than 300 objects" in line for line in text)


def test_the_most_confident_mistakes_have_the_labels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Predictions come class by class: the first ones would all be of one class."""
    monkeypatch.setattr(worst_objects, "_MOST_LABELS", 3)
    (_, predicted), _ = sheet_of(monkeypatch, tmp_path)
    assert [label[0] for label in predicted.labels] == ["long 0.86", "long 0.77", "long 0.68"]


def test_labels_are_inside_of_their_pictures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(sheet, "save", lambda figure, path: figures.append(figure))
    monkeypatch.setattr(sheet, "replacing", lambda path: nullcontext(path))
    drawn = Drawn(np.zeros((sheet.SIDE, sheet.SIDE, 3), np.uint8))
    for left in (0, sheet.SIDE // 2, sheet.SIDE - 8):
        mask = np.zeros((sheet.SIDE, sheet.SIDE), bool)
        mask[100:108, left : left + 8] = True
        drawn.add(mask, WRONG, "connective 0.86")
    write_sheet(tmp_path / "sheet.jpg", [Row("a", (drawn, drawn))], ["truth", "predicted"], 1, {})
    figure = figures[0]
    figure.draw_without_rendering()
    for axes in figure.axes:
        picture = axes.get_window_extent()
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == 3
        assert all(picture.x0 <= box.x0 and box.x1 <= picture.x1 for box in boxes)
