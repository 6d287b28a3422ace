"""Dropping of annotations that can't be made into masks, with one warning per kind and dataset."""

import logging
import math
import os
from array import array
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from ...errors import first_of
from .coco_values import NEAR
from .segmentation import (
    FAR,
    MISFIT,
    SHORT,
    UNFILLED,
    WITHOUT,
    compressed,
    usable_segmentation,
)

logger = logging.getLogger(__name__)

Annotation = dict[str, Any]
_NAMED = 3  # examples that a message names, at most
_CHUNK = 20_000  # annotations that are checked together


class DroppedMasks:
    """Count the segmentations that are dropped, by the reason.

    Args:
        source: the annotation file or the dataset, for messages.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._counts: Counter[str] = Counter()
        self._misfits: list[str] = []

    def usable(
        self, annotation: Annotation, size: tuple[float, float], file: str
    ) -> Annotation | None:
        """Return an annotation with the usable part of its segmentation, or None.

        Args:
            annotation: with `segmentation`; it is not changed.
            size: (height, width) of its image, in pixels; infinite if it is unknown.
            file: path of its image, for messages.

        Returns:
            A copy with the usable polygons, or compressed RLE. None if nothing is usable.
        """
        given = annotation.get("segmentation")
        kept, reasons = usable_segmentation(given, size)
        self._counts += reasons
        if MISFIT in reasons and given is not None:
            self._misfits.append(f"{given['size']} in {os.path.basename(file)}")
        return None if kept is None else {**annotation, "segmentation": compressed(kept)}

    def report(self) -> None:
        """Log what was dropped; each message appears once per process."""
        counts, source = self._counts, self._source
        if counts[SHORT]:
            _warn_once(f"{source}: dropped {counts[SHORT]} polygons of fewer than 3 points.")
        if counts[FAR]:
            _warn_once(
                f"{source}: dropped {counts[FAR]} polygons with coordinates that are not numbers, "
                "or are far outside their image."
            )
        if counts[WITHOUT]:
            _warn_once(f"{source}: dropped {counts[WITHOUT]} annotations without 'segmentation'.")
        if counts[UNFILLED]:
            _warn_once(
                f"{source}: dropped {counts[UNFILLED]} RLE masks whose counts don't add up to the "
                "pixels of their image."
            )
        if self._misfits:
            _warn_once(
                f"{source}: dropped {len(self._misfits)} RLE masks whose size is not their "
                f"image's: {first_of(self._misfits, _NAMED)}."
            )


@cache
def _warn_once(message: str) -> None:
    logger.warning(message)


def drop_unusable(records: Iterable[dict[str, Any]], source: str) -> None:
    """Drop annotations that can't be made into masks, in place, and log how many.

    These are polygons of fewer than 3 points or with impossible coordinates, annotations without
    any usable segmentation, and RLE of another size than its image or whose counts don't add up to
    the image's pixels. The remaining RLE is compressed.

    Args:
        records: detectron2's dicts.
        source: the annotation file or the dataset, for messages.
    """
    left_out = DroppedMasks(source)
    for record in records:
        # Records of detectron2's own datasets may lack a size, which polygons don't need.
        size = (record.get("height", math.inf), record.get("width", math.inf))
        if "annotations" in record:
            usable = [left_out.usable(a, size, record["file_name"]) for a in record["annotations"]]
            record["annotations"] = [a for a in usable if a is not None]
    left_out.report()


def usable_annotations(
    annotations: list[Annotation], images: dict[Any, dict[str, Any]], source: str
) -> list[Annotation]:
    """Return the annotations that can be made into masks; see `drop_unusable`.

    Args:
        annotations: of a COCO json, normalised.
        images: the images of the json, by their ids.
        source: the annotation file, for messages.
    """
    left_out = DroppedMasks(source)
    kept: list[Annotation] = []
    for start in range(0, len(annotations), _CHUNK):
        chunk = annotations[start : start + _CHUNK]
        plain = _are_plain([a for a in chunk if _has_polygons(a)])
        for annotation in chunk:
            if plain and _has_polygons(annotation):
                kept.append(annotation)
                continue
            image = images[annotation["image_id"]]
            size = (image["height"], image["width"])
            usable = left_out.usable(annotation, size, image["file_name"])
            if usable is not None:
                kept.append(usable)
    left_out.report()
    return kept


def _has_polygons(annotation: Annotation) -> bool:
    return type(annotation.get("segmentation")) is list


def _are_plain(annotations: list[Annotation]) -> bool:
    """Return, in one fast pass, whether all are polygons that can be drawn at any image size."""
    polygons: list[array] = []
    for annotation in annotations:
        if not annotation["segmentation"]:
            return False
        polygons += annotation["segmentation"]
    if {*map(type, polygons)} != {array}:
        return False
    lengths = np.fromiter(map(len, polygons), np.int64, len(polygons))
    if (lengths < 6).any() or (lengths % 2).any():
        return False
    flat = np.frombuffer(b"".join(polygons))
    return bool(np.abs(flat).max() <= NEAR)  # False for NaN, too
