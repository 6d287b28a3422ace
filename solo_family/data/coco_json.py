"""Reads a COCO-format dataset, and says what is wrong with it before training does."""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

from detectron2.data.datasets.coco import load_coco_json

from ..errors import DataError

logger = logging.getLogger(__name__)

_NAMED = 3  # of many offenders, as many are named


def load_checked_coco_json(annotations: str, image_dir: str, name: str) -> list[dict[str, Any]]:
    """Returns detectron2's dicts of a dataset, without annotations that have no usable mask.

    Left out, counted and warned of once: annotations without `segmentation`, and RLE of another
    size than its image. (detectron2 does so with polygons of fewer than 3 points.)

    Raises:
        DataError: see `check_coco_json`.
    """
    check_coco_json(annotations, image_dir)
    records = load_coco_json(annotations, image_dir, name)
    without, misfits = 0, []
    for record in records:
        usable = []
        for annotation in record["annotations"]:
            segmentation = annotation.get("segmentation")
            if segmentation is None:
                without += 1
            elif isinstance(segmentation, dict) and list(segmentation["size"]) != [
                record["height"],
                record["width"],
            ]:
                misfits.append(f"{segmentation['size']} in {record['file_name']}")
            else:
                usable.append(annotation)
        record["annotations"] = usable
    if without:
        logger.warning(f"{annotations}: left out {without} annotations without 'segmentation'.")
    if misfits:
        logger.warning(
            f"{annotations}: left out {len(misfits)} RLE masks whose size is not their image's: "
            f"{_some(misfits)}."
        )
    return records


@cache
def check_coco_json(annotations: str, image_dir: str) -> None:
    """Checks the file, once in a process.

    Raises:
        DataError: it is missing, not JSON, not in COCO's format, without images, has an id twice or
            an annotation of an unknown category or image, or names images that don't exist.
    """
    content = read_coco_json(annotations)
    images, categories = content["images"], content["categories"]
    if not images:
        raise DataError(f"{annotations} has no images. Is it the file of an empty split?")
    for kind in ("images", "categories", "annotations"):
        _check_unique(annotations, kind, (item["id"] for item in content.get(kind, [])))
    category_ids = {category["id"] for category in categories}
    image_ids = {image["id"] for image in images}
    for annotation in content.get("annotations", []):
        for key, known in (("category_id", category_ids), ("image_id", image_ids)):
            if annotation.get(key) not in known:
                raise DataError(
                    f"{annotations}: annotation {annotation['id']} has {key} "
                    f"{annotation.get(key)}, which is not among the file's "
                    f"{'categories' if key == 'category_id' else 'images'}. "
                    "Add it there, or remove the annotation."
                )
    missing = [
        image["file_name"]
        for image in images
        if not os.path.isfile(os.path.join(image_dir, image["file_name"]))
    ]
    if missing:
        raise DataError(
            f"{annotations} names {len(missing)} images of {len(images)} that are not in "
            f"{image_dir}: {_some(missing)}. Name the folder that 'file_name' is relative to."
        )


def read_coco_json(annotations: str) -> dict[str, Any]:
    """Returns the content of a file that has COCO's parts.

    Raises:
        DataError: it is missing, not JSON, or lacks a part.
    """
    try:
        with open(annotations, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError as error:
        raise DataError(f"There is no annotation file {annotations}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{annotations} is not JSON: {error}.") from error
    parts = {"images": ("id", "file_name"), "categories": ("id", "name"), "annotations": ("id",)}
    for part, keys in parts.items():
        items = content.get(part) if isinstance(content, dict) else None
        if part == "annotations" and isinstance(content, dict) and part not in content:
            continue  # a test set without ground truth
        if not isinstance(items, list) or not all(
            isinstance(item, dict) and all(key in item for key in keys) for item in items
        ):
            raise DataError(
                f"{annotations} is not in COCO's format for instances: '{part}' must be a list of "
                f"objects with {', '.join(repr(key) for key in keys)}."
            )
    if not content["categories"]:
        raise DataError(f"{annotations} has no categories: there is nothing to learn.")
    return content


def _check_unique(annotations: str, kind: str, ids: Iterable[Any]) -> None:
    twice = [str(identity) for identity, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(
            f"{annotations}: {len(twice)} ids in '{kind}' stand more than once: {_some(twice)}. "
            "Ids must be unique."
        )


def _some(items: list[str]) -> str:
    rest = len(items) - _NAMED
    return ", ".join(items[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
