"""Datasets named in place: `coco_json:ANNOTATIONS.json:IMAGE_DIR` instead of a registered name."""

import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..errors import DataError
from .coco_json import check_coco_json, load_checked_coco_json, read_coco_json
from .voc import EVALUATOR_TYPE, check_voc

PREFIX = "coco_json:"


def register_in_place(names: Iterable[str]) -> None:
    """Registers the names that describe a COCO-format dataset, and leaves all others alone.

    Args:
        names: of `DATASETS.TRAIN` or `DATASETS.TEST`.

    Raises:
        DataError: such a name lacks a part, or names a file or folder that isn't there.
    """
    for name in names:
        if name.startswith(PREFIX) and name not in DatasetCatalog.list():
            annotations, image_dir = _parse(name)
            DatasetCatalog.register(name, partial(load_checked_coco_json, annotations, image_dir))
            MetadataCatalog.get(name).set(
                json_file=annotations,
                image_root=image_dir,
                evaluator_type="coco",
                **_categories(annotations),
            )


def check_datasets(names: Sequence[str]) -> None:
    """Checks the files of datasets in COCO's format and of VOC, before anything is built.

    Args:
        names: of `DATASETS.TRAIN` or `DATASETS.TEST`, registered or in place.

    Raises:
        DataError: nothing of such a name is registered, or see `check_coco_json`, `check_voc`.
    """
    register_in_place(names)
    for name in names:
        if name not in DatasetCatalog.list():
            raise DataError(
                f"Dataset {name!r} is not registered. Write "
                "coco_json:ANNOTATIONS.json:IMAGE_DIR, or register it before training."
            )
        metadata = MetadataCatalog.get(name)
        json_file, image_root = metadata.get("json_file"), metadata.get("image_root")
        if metadata.get("evaluator_type") == "coco" and json_file and image_root:
            check_coco_json(json_file, image_root)
        elif metadata.get("evaluator_type") == EVALUATOR_TYPE:
            check_voc(metadata.dirname, metadata.split)


def _parse(name: str) -> tuple[str, str]:
    parts = name.removeprefix(PREFIX).split(":")
    if len(parts) != 2 or not all(parts):
        raise DataError(
            f"Dataset {name!r}: write coco_json:ANNOTATIONS.json:IMAGE_DIR; no colons in paths."
        )
    annotations, image_dir = (expand_path(part) for part in parts)
    if not os.path.isfile(annotations):
        raise DataError(f"Dataset {name!r}: there is no annotation file {annotations}.")
    if not os.path.isdir(image_dir):
        raise DataError(f"Dataset {name!r}: there is no image folder {image_dir}.")
    return annotations, image_dir


def expand_path(path: str) -> str:
    """Returns `path` with `~` and environment variables replaced, so that configs can say $DATA."""
    return os.path.expandvars(os.path.expanduser(path))


def _categories(annotations: str) -> dict[str, Any]:
    """Returns what detectron2 knows of the categories after it has read the file.

    The model's outputs are in the order of the categories' ids.
    """
    categories = read_coco_json(annotations)["categories"]
    by_id = sorted(categories, key=lambda category: category["id"])
    return {
        "thing_classes": [category["name"] for category in by_id],
        "thing_dataset_id_to_contiguous_id": {c["id"]: index for index, c in enumerate(by_id)},
    }


def _load_unregistered(catalog: Any, name: str) -> Any:
    """Lets a name in place be used wherever detectron2 looks a dataset up, unregistered or not."""
    if not isinstance(name, str) or not name.startswith(PREFIX):
        raise KeyError(name)
    register_in_place([name])
    return catalog.data[name]


# DatasetCatalog is a UserDict, which asks its class for what it lacks.
type(DatasetCatalog).__missing__ = _load_unregistered
