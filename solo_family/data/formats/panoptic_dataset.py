"""Datasets in COCO's panoptic format."""

import logging
import os
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import DataError
from ..loading.images import read_image_size
from .coco_normalise import has_keys
from .image_files import find_all
from .json_files import NotJson, parse_json
from .panoptic_values import normalise_panoptic
from .reread import read_once

logger = logging.getLogger(__name__)

_PARTS = {
    "images": ("id", "file_name"),
    "categories": ("id", "name", "isthing"),
    "annotations": ("image_id", "file_name", "segments_info"),
}


def register_panoptic(name: str, image_dir: str, panoptic_dir: str, panoptic_json: str) -> None:
    """Register a dataset for panoptic segmentation in detectron2's catalogs.

    The model's classes are the categories in the order of their ids, things and stuff together.

    Args:
        name: name of the dataset for `DATASETS.TRAIN` and `DATASETS.TEST`.
        image_dir: folder of the images.
        panoptic_dir: folder of the PNGs, whose segment ids are R + 256 G + 256^2 B.
        panoptic_json: path of COCO's panoptic json.

    Raises:
        DataError: the json can't be read, or isn't in COCO's panoptic format.
    """
    metadata = panoptic_metadata(panoptic_json)
    DatasetCatalog.register(name, partial(load_panoptic, image_dir, panoptic_dir, panoptic_json))
    MetadataCatalog.get(name).set(
        image_root=image_dir,
        panoptic_root=panoptic_dir,
        panoptic_json=panoptic_json,
        evaluator_type="coco_panoptic_seg",
        ignore_label=255,
        **metadata,
    )


def panoptic_metadata(panoptic_json: str) -> dict[str, Any]:
    """Return detectron2's metadata of the categories: their names, and which of them are things."""
    categories = read_panoptic_json(panoptic_json)["categories"]
    names = [category["name"] for category in categories]
    contiguous = {category["id"]: index for index, category in enumerate(categories)}
    things = {category["id"] for category in categories if category["isthing"]}
    return {
        "thing_classes": names,
        "stuff_classes": names,
        "thing_dataset_id_to_contiguous_id": {i: contiguous[i] for i in contiguous if i in things},
        "stuff_dataset_id_to_contiguous_id": {
            i: contiguous[i] for i in contiguous if i not in things
        },
    }


def load_panoptic(image_dir: str, panoptic_dir: str, panoptic_json: str) -> list[dict[str, Any]]:
    """Return detectron2's dicts, with `pan_seg_file_name` and `segments_info`.

    Raises:
        DataError: a folder or file is missing, a path leads out of its folder, or the json can't be
            read or contradicts itself.
    """
    content = read_panoptic_json(panoptic_json)
    for folder in (image_dir, panoptic_dir):
        if not os.path.isdir(folder):
            raise DataError(
                f"There is no folder {folder}, which the panoptic dataset {panoptic_json} needs. "
                "Correct the path."
            )
    contiguous = {category["id"]: i for i, category in enumerate(content["categories"])}
    things = {category["id"] for category in content["categories"] if category["isthing"]}
    images = {image["id"]: image for image in content["images"]}
    shown = []
    for annotation in content["annotations"]:
        image = images.get(annotation["image_id"])
        if image is None:
            raise DataError(
                f"{panoptic_json}: an annotation has image_id {annotation['image_id']}, which is "
                "not among the file's images. Add it there, or remove the annotation."
            )
        shown.append(image)
    paths = _paths(image_dir, [image["file_name"] for image in shown], panoptic_json)
    named = [annotation["file_name"] for annotation in content["annotations"]]
    labels = _paths(panoptic_dir, named, panoptic_json)
    records = []
    for annotation, image, path, label in zip(content["annotations"], shown, paths, labels):
        height, width = image["height"], image["width"]
        if height is None:
            height, width = read_image_size(path)
        segments = []
        for segment in annotation["segments_info"]:
            category = segment["category_id"]
            if category not in contiguous:
                raise DataError(
                    f"{panoptic_json}: segment {segment['id']} of {annotation['file_name']} has "
                    f"category_id {category}, which is not among the file's categories. Add it "
                    "there, or correct the segment."
                )
            own = {"category_id": contiguous[category], "isthing": category in things}
            segments.append({**segment, **own})
        records.append(
            {
                "file_name": path,
                "pan_seg_file_name": label,
                "image_id": image["id"],
                "height": height,
                "width": width,
                "segments_info": segments,
            }
        )
    return records


def _paths(folder: str, names: list[str], source: str) -> list[str]:
    paths, notices = find_all(folder, names, source)
    _tell(source, tuple(notices))
    return paths


@cache
def _tell(source: str, notices: tuple[str, ...]) -> None:
    if notices:
        logger.warning("%s: converted to COCO's form: %s.", source, "; ".join(notices))


@read_once(lambda path: (path,))
def read_panoptic_json(path: str) -> dict[str, Any]:
    """Return the content of a panoptic json, with the categories in the order of their ids.

    Raises:
        DataError: the file is missing, is not JSON, lacks a part of COCO's panoptic format, or has
            a value that can't be used; see `normalise_panoptic`.
    """
    try:
        with open(path, "rb") as file:
            content = parse_json(file)
    except OSError as error:
        raise DataError(
            f"The panoptic json {path} can't be read ({error.strerror or error}). "
            "Give the path of a json in COCO's panoptic format."
        ) from error
    except NotJson as error:
        raise DataError(
            f"{path} is not JSON: {error}. Give the path of a json in COCO's panoptic format."
        ) from error
    for part, keys in _PARTS.items():
        _check_part(path, content, part, keys)
    _tell(path, tuple(normalise_panoptic(path, content).listed()))
    return {**content, "categories": sorted(content["categories"], key=lambda item: item["id"])}


def _check_part(path: str, content: Any, part: str, keys: Sequence[str]) -> None:
    items = content.get(part) if isinstance(content, dict) else None
    if (
        not isinstance(items, list)
        or not items
        or not all(isinstance(item, dict) and has_keys(item, keys) for item in items)
    ):
        raise DataError(
            f"{path} is not in COCO's panoptic format: '{part}' must be a list of objects with "
            f"{', '.join(repr(key) for key in keys)}."
        )
