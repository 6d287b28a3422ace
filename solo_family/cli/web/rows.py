"""The rows of the page's table: an instance, a panoptic segment, or a class of pixels each.

H W of the picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.data import Metadata
from scipy import ndimage

from ...ops.label_maps import class_of_pixels
from ...ops.runs import Runs, box_of, runs_of
from ...ops.window import Window
from ...predictor.painting import colours_of
from ...predictor.predictions import Predictions
from ...saving.picture import Classes


@dataclass(frozen=True)
class Row:
    """What was found at one place.

    Attributes:
        number: from 1, in the table and on the picture.
        name: of the class.
        score: 0 to 1; None where there is none.
        area: in pixels.
        box: x0 y0 x1 y1 in pixels, ends exclusive.
        middle: x and y of a pixel in it.
        colour: with which it is painted, BGR, 0 to 255.
    """

    number: int
    name: str
    score: float | None
    area: int
    box: tuple[int, int, int, int]
    middle: tuple[int, int]
    colour: tuple[int, int, int]


def rows_of(predictions: Predictions, metadata: Metadata) -> list[Row]:
    """Return the rows of the most complete prediction, which is the one that is painted.

    Args:
        predictions: of `made_small`, filtered.
        metadata: names and colours of the classes.
    """
    classes, colours = Classes(metadata), colours_of(predictions, metadata)
    rows: list[Row] = []
    for label, score, place, runs, height in _found(predictions, classes):
        if not runs.area:
            continue
        box = box_of(runs, height)
        row = Row(
            number=len(rows) + 1,
            name=classes.name(label),
            score=score,
            area=runs.area,
            box=(box.left, box.top, box.right, box.bottom),
            middle=_middle(runs, height),
            colour=_rounded(colours[place]),
        )
        rows.append(row)
    return rows


_Found = tuple[int, float | None, int, Runs, int]


def _found(predictions: Predictions, classes: Classes) -> Iterator[_Found]:
    """Yield for each row class, score, place in the colours, mask, and H."""
    if "panoptic_seg" in predictions:
        segments, infos = predictions["panoptic_seg"]
        masks = dict(_masks(segments))
        for info in infos or []:
            if info["id"] in masks:
                runs = masks[info["id"]]
                yield info["category_id"], info.get("score"), info["id"], runs, len(segments)
    elif "sem_seg" in predictions:
        labels = class_of_pixels(predictions["sem_seg"])
        for label, runs in _masks(labels):
            if label < len(classes.names) or not classes.names:
                yield label, None, label, runs, len(labels)
    else:
        yield from _instances(predictions["instances"])


def _instances(instances: Any) -> Iterator[_Found]:
    labels, scores = instances.pred_classes.tolist(), instances.scores.tolist()
    for place, (label, score) in enumerate(zip(labels, scores, strict=True)):
        yield label, score, place, instances.pred_masks.masks[place], instances.image_size[0]


def _masks(numbers: torch.Tensor) -> Iterator[tuple[int, Runs]]:
    """Yield the numbers of a map, int [H, W], each with the mask of its pixels."""
    places = ndimage.find_objects(numbers.numpy().astype(np.int32) + 1)
    for number, place in enumerate(places):
        if place is not None:
            rows, columns = place
            window = Window(rows.start, columns.start, rows.stop, columns.stop)
            yield number, runs_of((numbers[place] == number)[None], window, len(numbers))[0]


def _middle(runs: Runs, height: int) -> tuple[int, int]:
    """Return x and y of the middle of the run that half of a mask's pixels come before."""
    before = (runs.stops - runs.starts).cumsum()
    run = int(np.searchsorted(before, runs.area // 2, side="right"))
    x, y = divmod(int(runs.starts[run] + runs.stops[run] - 1) // 2, height + 1)
    return x, y


def _rounded(colour: np.ndarray) -> tuple[int, int, int]:
    blue, green, red = (int(value) for value in colour.round())
    return blue, green, red
