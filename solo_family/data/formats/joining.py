"""Joining of several training datasets: their classes by name, their records into one list."""

import logging
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.build import print_instances_class_histogram

from ...config.rules import get_key
from ...errors import ConfigError, DataError
from ...registry import METHODS
from .crowds import OBJECTS, are_of_a_tool
from .dataset_classes import JoinedClasses, join_classes
from .own_records import READ_HERE, dataset_records
from .register import PREFIX
from .unusable import drop_unusable

logger = logging.getLogger(__name__)

# The keys of labels in detectron2's dicts, and their names in messages. Dicts with panoptic
# segments may also have semantic labels, so panoptic segments come first.
_LABELS = {
    "pan_seg_file_name": "panoptic segments",
    "sem_seg_file_name": "semantic labels",
    "annotations": "instances",
}


def load_each(cfg: CfgNode) -> dict[str, list[dict[str, Any]]]:
    """Return detectron2's dicts of `DATASETS.TRAIN`, without masks that can't be used, by name.

    Those of a dataset that is named twice are there twice.

    Raises:
        ConfigError: the datasets have labels of several kinds, or classes that can't be joined (see
            `join_classes`).
        DataError: a dataset has no images, or no image has an object to learn.
    """
    names = tuple(cfg.DATASETS.TRAIN)
    joined = join_classes(names, cfg.DATASETS.CLASS_UNION)
    datasets: dict[str, list[dict[str, Any]]] = {}
    kinds: dict[str, str] = {}
    for name in dict.fromkeys(names):
        own = dataset_records(name)
        if not own:
            raise DataError(
                f"Dataset {name!r} of DATASETS.TRAIN has no images. Name a dataset that has some."
            )
        if name not in READ_HERE:
            drop_unusable(own, name)
        kinds[name] = next((kind for key, kind in _LABELS.items() if key in own[0]), "no labels")
        datasets[name] = _mapped(own, name, joined) * names.count(name)
    if len(set(kinds.values())) > 1:
        stated = "; ".join(f"{name!r} has {kind}" for name, kind in kinds.items())
        raise ConfigError(
            f"DATASETS.TRAIN has labels of several kinds: {stated}. Name datasets whose labels are "
            "of the same kind."
        )
    if "instances" in kinds.values():
        records = [record for own in datasets.values() for record in own]
        _check_objects(records, names)
        if joined is None:
            _check_indices(records, cfg)
        else:
            print_instances_class_histogram(records, joined.names)
    return datasets


def _mapped(
    records: list[dict[str, Any]], name: str, joined: JoinedClasses | None
) -> list[dict[str, Any]]:
    """Return records whose class indices are those of the joined classes."""
    return with_classes_at(records, joined.places.get(name) if joined else None)


def with_classes_at(
    records: list[dict[str, Any]], places: Sequence[int] | None
) -> list[dict[str, Any]]:
    """Return records with other class indices.

    Args:
        records: detectron2's dicts; those of semantic labels have no indices.
        places: the new index of each class; None for the same.
    """
    if places is None or list(places) == list(range(len(places))):
        return records
    mapped = []
    for record in records:
        changed = dict(record)
        for key in ("annotations", "segments_info"):
            if key in record:
                changed[key] = [
                    item | {"category_id": places[item["category_id"]]} for item in record[key]
                ]
        mapped.append(changed)
    return mapped


def _check_indices(records: list[dict[str, Any]], cfg: CfgNode) -> None:
    """Check the classes of objects whose datasets name none.

    Raises:
        ConfigError: the model has not so many classes.
    """
    method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
    if method is None or (method.classify_key and not get_key(cfg, method.classify_key)):
        return
    count = get_key(cfg, method.num_classes_key)
    largest = max(one["category_id"] for record in records for one in record["annotations"])
    if largest >= count:
        raise ConfigError(
            f"{method.num_classes_key} is {count}, but DATASETS.TRAIN has objects with category_id "
            f"{largest}; classes count from 0. Correct the number of classes, or category_id."
        )


def _check_objects(records: list[dict[str, Any]], names: Sequence[str]) -> None:
    """Check that there is an object to learn.

    Raises:
        DataError: no image has an object, or all objects are crowds.
    """
    annotations = [annotation for record in records for annotation in record["annotations"]]
    num_crowds = sum(bool(annotation.get("iscrowd", 0)) for annotation in annotations)
    if num_crowds < len(annotations):
        if are_of_a_tool(annotations):
            logger.warning(
                "%s: %d of %d masks are crowds ('iscrowd' 1), among them most RLE masks. Crowds "
                "are not learnt. If they are objects, write ?crowd=objects after the image folder.",
                ", ".join(names),
                num_crowds,
                len(annotations),
            )
        return
    stated = f"DATASETS.TRAIN {', '.join(names)}: there is nothing to learn"
    if not annotations:
        raise DataError(
            f"{stated}, because no image has an object. Draw some, or name another file. If the "
            "file should have objects, run check-data on it."
        )
    spelt = [_as_objects(name) for name in names]
    remedy = (
        f'DATASETS.TRAIN "({", ".join(map(repr, spelt))},)"'
        if all(name.startswith(PREFIX) for name in names)
        else "'iscrowd' 0 in their annotations"
    )
    raise DataError(
        f"{stated}, because all {len(annotations)} masks that can be read are crowds ('iscrowd' "
        "1). Some tools write that for every RLE mask. If there should be other masks, check-data "
        f"says what is wrong with them. To read the crowds as objects, write {remedy}."
    )


def _as_objects(name: str) -> str:
    crowd = MetadataCatalog.get(name).get("crowd", "")
    return name if crowd == OBJECTS else f"{name}?crowd={OBJECTS}"
