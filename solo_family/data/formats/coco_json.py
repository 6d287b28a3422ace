"""Reads a COCO-format dataset, and says what is wrong with it before training does."""

import json
import logging
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from reprlib import repr as shortened
from typing import Any

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager
from pycocotools.coco import COCO

from ...errors import DataError
from .coco_values import check_categories, check_values, is_area, is_box, path_inside
from .segmentation import FAR, MISFIT, SHORT, UNFILLED, WITHOUT, compressed, usable_segmentation

logger = logging.getLogger(__name__)

_NAMED = 3  # of many offenders, as many are named
_PARTS = {
    "images": ("id", "file_name", "height", "width"),
    "categories": ("id", "name"),
    "annotations": ("id", "bbox"),
}


def load_checked_coco_json(annotations: str, image_dir: str) -> list[dict[str, Any]]:
    """Returns detectron2's dicts of a dataset, without annotations that have no usable mask.

    As detectron2's `load_coco_json`; classes are in the order of the categories' ids.

    Raises:
        DataError: see `check_coco_json`.
    """
    check_coco_json(annotations, image_dir)
    content = read_coco_json(annotations)
    ids = sorted(category["id"] for category in content["categories"])
    classes = {identity: index for index, identity in enumerate(ids)}
    by_image = defaultdict(list)
    for annotation in content.get("annotations", []):
        kept = {
            key: annotation[key] for key in ("iscrowd", "bbox", "segmentation") if key in annotation
        }
        kept |= {"category_id": classes[annotation["category_id"]], "bbox_mode": BoxMode.XYWH_ABS}
        by_image[annotation["image_id"]].append(kept)
    records = [
        {
            "file_name": path_inside(image_dir, image["file_name"], annotations),
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "annotations": by_image[image["id"]],
        }
        for image in sorted(content["images"], key=lambda image: image["id"])
    ]
    leave_out_unusable(records, annotations)
    return records


def leave_out_unusable(records: Iterable[dict[str, Any]], source: str) -> None:
    """Leaves out, in place, what no mask can be made of; says once what, and how much.

    That is polygons of fewer than 3 points or with impossible coordinates, annotations without
    (another) segmentation, and RLE of another size than its image or whose runs don't fill it. What
    is left of RLE is compressed.

    Args:
        records: detectron2's dicts; COCO's annotations in them do as well.
        source: what the messages name: the annotation file, or the dataset.
    """
    left_out: Counter[str] = Counter()
    misfits = []
    for record in records:
        # Records of detectron2's own datasets may lack a size; polygons can do without.
        size = (record.get("height", math.inf), record.get("width", math.inf))
        usable = []
        for annotation in record.get("annotations", []):
            given = annotation.get("segmentation")
            kept, reasons = usable_segmentation(given, size)
            left_out += reasons
            if MISFIT in reasons:
                misfits.append(f"{given['size']} in {os.path.basename(record['file_name'])}")
            if kept is not None:
                usable.append({**annotation, "segmentation": compressed(kept)})
        if "annotations" in record:
            record["annotations"] = usable
    if left_out[SHORT]:
        _warn_once(f"{source}: left out {left_out[SHORT]} polygons of fewer than 3 points.")
    if left_out[FAR]:
        _warn_once(
            f"{source}: left out {left_out[FAR]} polygons with coordinates that are not numbers, "
            "or are far outside their image."
        )
    if left_out[WITHOUT]:
        _warn_once(f"{source}: left out {left_out[WITHOUT]} annotations without 'segmentation'.")
    if left_out[UNFILLED]:
        _warn_once(
            f"{source}: left out {left_out[UNFILLED]} RLE masks whose runs don't fill their image."
        )
    if misfits:
        _warn_once(
            f"{source}: left out {len(misfits)} RLE masks whose size is not their image's: "
            f"{_some(misfits)}."
        )


def leave_out_unusable_truth(coco: COCO, source: str) -> None:
    """Leaves the same out of what predictions are compared with, in place; see above.

    Raises:
        DataError: an annotation lacks what COCO's metrics need.
    """
    records = [
        {**image, "annotations": [_evaluable(a, source) for a in coco.imgToAnns[image["id"]]]}
        for image in coco.dataset["images"]
    ]
    leave_out_unusable(records, source)
    coco.dataset["annotations"] = [a for record in records for a in record["annotations"]]
    coco.createIndex()


def _evaluable(annotation: dict[str, Any], source: str) -> dict[str, Any]:
    place = f"{source}: annotation {annotation['id']}"
    for key in ("area", "iscrowd"):
        if key not in annotation:
            raise DataError(
                f"{place} has no '{key}', which the metrics need. "
                "Add it, in pixels for 'area' and 0 or 1 for 'iscrowd'."
            )
    if not is_area(annotation["area"]):
        raise DataError(
            f"{place} has area {shortened(annotation['area'])}, but the metrics need a number of "
            "pixels, from 0."
        )
    return annotation


@cache
def _warn_once(message: str) -> None:
    logger.warning(message)


@cache
def check_coco_json(annotations: str, image_dir: str) -> None:
    """Checks the file, once in a process.

    Raises:
        DataError: see `read_checked_coco_json`; or the file names images that don't exist, or are
            outside the folder.
    """
    images = read_checked_coco_json(annotations)["images"]
    missing = [
        image["file_name"]
        for image in images
        if not PathManager.isfile(path_inside(image_dir, image["file_name"], annotations))
    ]
    if missing:
        raise DataError(
            f"{annotations} names {len(missing)} images of {len(images)} that are not in "
            f"{image_dir}: {_some(missing)}. Name the folder that 'file_name' is relative to."
        )


def read_checked_coco_json(annotations: str) -> dict[str, Any]:
    """Returns the content of a file whose parts fit together; the images need not be there.

    Raises:
        DataError: see `read_coco_json` and `check_content`.
    """
    content = read_coco_json(annotations)
    check_content(annotations, content)
    return content


def check_content(annotations: str, content: dict[str, Any]) -> None:
    """Checks that the parts of a file fit together.

    Args:
        annotations: the file, for messages.
        content: as `read_coco_json` returns it.

    Raises:
        DataError: it has an id twice, an annotation of an unknown category or image, or impossible
            values.
    """
    check_values(annotations, content)
    images, categories = content["images"], content["categories"]
    for kind in _PARTS:
        _check_unique(annotations, kind, (item["id"] for item in content.get(kind, [])))
    category_ids = {category["id"] for category in categories}
    image_ids = {image["id"] for image in images}
    for annotation in content.get("annotations", []):
        place = f"{annotations}: annotation {annotation['id']}"
        for key, known in (("category_id", category_ids), ("image_id", image_ids)):
            value = annotation.get(key)
            if not isinstance(value, int | str) or value not in known:
                raise DataError(
                    f"{place} has {key} {shortened(value)}, which is not among the file's "
                    f"{'categories' if key == 'category_id' else 'images'}. "
                    "Add it there, or remove the annotation."
                )
        if not is_box(annotation["bbox"]):
            raise DataError(
                f"{place} has bbox {shortened(annotation['bbox'])}; it must be [left, top, width, "
                "height] in pixels."
            )


def read_coco_json(annotations: str) -> dict[str, Any]:
    """Returns the content of a file that has COCO's parts.

    Raises:
        DataError: it is missing, not JSON, lacks a part, or has no images or categories.
    """
    try:
        with PathManager.open(annotations, "r", encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise DataError(
            f"The annotation file {annotations} can't be read ({error.strerror or error}). "
            "Give the path of a COCO-format json."
        ) from error
    except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
        raise DataError(
            f"{annotations} is not JSON: {error}. Give the path of a COCO-format json."
        ) from error
    for part, keys in _PARTS.items():
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
    if not content["images"]:
        raise DataError(
            f"{annotations} has no images. Name the file of a split that has some; "
            "is it that of an empty one?"
        )
    if not content["categories"]:
        raise DataError(f"{annotations} has no categories: there is nothing to learn. Add them.")
    check_categories(annotations, content["categories"])
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
