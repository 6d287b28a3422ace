"""Datasets named in place, without registration: instances, semantic labels, panoptic segments.

A name in `DATASETS.TRAIN` or `DATASETS.TEST` can describe a dataset:

- `coco_json:ANNOTATIONS.json:IMAGE_DIR[?crowd=objects]`;
- `semantic:IMAGE_DIR:LABEL_DIR:CLASSES[:IGNORED_LABEL]`, where CLASSES are names separated by
  commas, or a text file of names;
- `panoptic:IMAGE_DIR:PNG_DIR:PANOPTIC.json`;
- the formats of other tools: `yolo:DIR[:SPLIT]`, `voc:DIR[:SPLIT]`,
  `masks:IMAGE_DIR:MASK_DIR[:CLASSES]`.
"""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import DataError
from ...files import expand_path
from .builtin import check_paths
from .coco_json import check_coco, coco_classes, load_coco
from .crowds import OBJECTS
from .label_sample import check_labels
from .mask_pictures import PREFIX as MASKS_PREFIX
from .mask_pictures import register_masks
from .own_records import READ_HERE
from .packages import check_package
from .panoptic_dataset import register_panoptic
from .semantic_dataset import read_class_names, register_semantic
from .voc import EVALUATOR_TYPE, check_voc
from .voc_folder import PREFIX as VOC_PREFIX
from .voc_folder import register_voc_folder
from .yolo import PREFIX as YOLO_PREFIX
from .yolo import register_yolo

logger = logging.getLogger(__name__)

PREFIX = "coco_json:"
SEMANTIC_PREFIX = "semantic:"
PANOPTIC_PREFIX = "panoptic:"

# Number of label images that are read as a check before a run.
_LABELS = 20

# The keys of detectron2's metadata that hold folders of a dataset.
_FOLDERS = ("image_root", "image_dir", "sem_seg_root", "gt_dir", "panoptic_root")


def register_in_place(names: Iterable[str]) -> None:
    """Register the names that describe a dataset in place; other names are left alone.

    Args:
        names: of `DATASETS.TRAIN` or `DATASETS.TEST`.

    Raises:
        DataError: such a name lacks a part, or names a file or folder that does not exist.
    """
    for name in names:
        kind = name.partition(":")[0] + ":"
        if name not in DatasetCatalog.list():
            if kind in _IN_PLACE:
                _IN_PLACE[kind](name)
        elif kind in _IN_PLACE:
            _register_again(name, _IN_PLACE[kind])
        else:
            _read_registered(name)


def _register_again(name: str, register: Callable[[str], None]) -> None:
    """Register a name in place again, if its files have other classes than when it was registered.

    Raises:
        DataError: see `register_in_place`; then the name is registered as before.
    """
    before = DatasetCatalog.data.pop(name), MetadataCatalog.get(name)
    MetadataCatalog.remove(name)
    kept = True
    try:
        register(name)
        kept = all(
            before[1].get(key) == value
            for key, value in MetadataCatalog.get(name).as_dict().items()
        )
    finally:
        if kept:
            DatasetCatalog.data[name], MetadataCatalog[name] = before


def check_datasets(names: Sequence[str]) -> None:
    """Check the files of datasets before a model is built.

    Args:
        names: of `DATASETS.TRAIN` or `DATASETS.TEST`, registered or in place.

    Raises:
        DataError: a name is not registered; a package, folder or file is missing; or the files of
            its dataset can't be used; see `check_coco`, `check_voc` and `check_labels`.
    """
    register_in_place(names)
    for name in names:
        if name not in DatasetCatalog.list():
            raise DataError(
                f"Dataset {name!r} is not registered. Register it before training, or describe it "
                "in place as coco_json:ANNOTATIONS.json:IMAGE_DIR."
            )
        check_package(name)
        metadata = MetadataCatalog.get(name)
        if metadata.get("evaluator_type") != "coco":
            _check_paths(name)
        if name.startswith(tuple(_IN_PLACE)) and not name.startswith(PREFIX):
            DatasetCatalog.get(name)  # raises an error if images and labels don't match
        if name.startswith((SEMANTIC_PREFIX, PANOPTIC_PREFIX)):
            for contradiction in check_labels(name, _LABELS):
                logger.warning(f"{name}: in a sample, {contradiction}")
        json_file, image_root = metadata.get("json_file"), metadata.get("image_root")
        if metadata.get("evaluator_type") == "coco" and json_file and image_root:
            if "://" not in json_file and not name.startswith(PREFIX):
                check_paths(name, [], [json_file])
            check_coco(json_file, image_root)
        elif metadata.get("evaluator_type") == EVALUATOR_TYPE:
            check_voc(metadata.dirname, metadata.split)


def _check_paths(name: str) -> None:
    metadata = MetadataCatalog.get(name)
    # detectron2's panoptic sets name the file of their instances, too, which nothing needs.
    file = metadata.get("panoptic_json") or metadata.get("json_file")
    check_paths(name, [metadata.get(key) for key in _FOLDERS], [file])


def _register_semantic(name: str) -> None:
    parts = name.removeprefix(SEMANTIC_PREFIX).split(":")
    ignored = parts[3] if len(parts) == 4 else "255"
    if len(parts) not in (3, 4) or not all(parts) or not ignored.isdecimal():
        raise DataError(
            f"Dataset {name!r}: write semantic:IMAGE_DIR:LABEL_DIR:CLASSES or "
            "semantic:IMAGE_DIR:LABEL_DIR:CLASSES:IGNORED_LABEL, where CLASSES are names separated "
            "by commas, or a text file of names; no colons in paths."
        )
    image_dir, label_dir, classes = (expand_path(part) for part in parts[:3])
    names = read_class_names(classes)
    register_semantic(name, image_dir, label_dir, names, ignore_label=int(ignored))


def _register_panoptic(name: str) -> None:
    parts = name.removeprefix(PANOPTIC_PREFIX).split(":")
    if len(parts) != 3 or not all(parts):
        raise DataError(
            f"Dataset {name!r}: write panoptic:IMAGE_DIR:PNG_DIR:PANOPTIC.json; no colons in paths."
        )
    register_panoptic(name, *(expand_path(part) for part in parts))


def _register_coco(name: str) -> None:
    annotations, image_dir, crowd = _parse(name)
    READ_HERE.add(name)
    classes = coco_classes(annotations, image_dir)
    DatasetCatalog.register(name, partial(load_coco, annotations, image_dir, crowd))
    MetadataCatalog.get(name).set(
        json_file=annotations,
        image_root=image_dir,
        crowd=crowd,
        evaluator_type="coco",
        # detectron2 sets these when it reads the file.
        thing_classes=list(classes.values()),
        thing_dataset_id_to_contiguous_id={i: index for index, i in enumerate(classes)},
    )


def _read_registered(name: str) -> None:
    """Make `load_coco` read a dataset that was registered with `register_coco_instances`.

    Evaluation reads the file with it, too. A loading function of the user's own is left alone.
    """
    load = DatasetCatalog.data[name]
    made_by = (getattr(load, "__module__", ""), getattr(load, "__qualname__", ""))
    if made_by != ("detectron2.data.datasets.coco", "register_coco_instances.<locals>.<lambda>"):
        return
    metadata = MetadataCatalog.get(name)

    def load_registered() -> list[dict[str, Any]]:
        classes = coco_classes(metadata.json_file, metadata.image_root)
        names, known = list(classes.values()), metadata.get("thing_classes")
        if known is not None and list(known) != names:
            raise DataError(
                f"Dataset {name!r}: {metadata.json_file} has the classes {', '.join(names)}, but "
                f"the dataset is registered with the classes {', '.join(known)}. Register it with "
                "the file of these classes, or register this file under another name."
            )
        metadata.set(
            thing_classes=names,
            thing_dataset_id_to_contiguous_id={i: index for index, i in enumerate(classes)},
        )
        return load_coco(metadata.json_file, metadata.image_root)

    DatasetCatalog.data[name] = load_registered
    READ_HERE.add(name)


def _parse(name: str) -> tuple[str, str, str]:
    """Return the annotation file, the image folder, and "objects" if crowds are objects, or ""."""
    parts = name.removeprefix(PREFIX).split(":")
    if len(parts) != 2 or not all(parts):
        raise DataError(
            f"Dataset {name!r}: write coco_json:ANNOTATIONS.json:IMAGE_DIR; no colons in paths."
        )
    annotations, (folder, crowd) = expand_path(parts[0]), split_crowd(parts[1])
    image_dir = expand_path(folder)
    if not os.path.isfile(annotations):
        raise DataError(
            f"Dataset {name!r}: there is no annotation file {annotations}. Correct the path."
        )
    if not os.path.isdir(image_dir):
        raise DataError(
            f"Dataset {name!r}: there is no image folder {image_dir}. Correct the path."
        )
    return annotations, image_dir, crowd


def split_crowd(path: str) -> tuple[str, str]:
    """Split the option `?crowd=objects` off a path.

    Returns:
        The path without the option, and "objects" if it had the option, or "".

    Raises:
        DataError: the path ends in another option.
    """
    if "?" not in path or os.path.exists(expand_path(path)):
        return path, ""
    plain, _, option = path.rpartition("?")
    if option != f"crowd={OBJECTS}":
        raise DataError(
            f"{path}: the option ?{option} is unknown. The only option after the image folder is "
            f"?crowd={OBJECTS}, which reads masks with 'iscrowd' 1 as objects. Write that, or "
            "remove the option."
        )
    return plain, OBJECTS


_IN_PLACE: dict[str, Callable[[str], None]] = {
    PREFIX: _register_coco,
    SEMANTIC_PREFIX: _register_semantic,
    PANOPTIC_PREFIX: _register_panoptic,
    YOLO_PREFIX: register_yolo,
    VOC_PREFIX: register_voc_folder,
    MASKS_PREFIX: register_masks,
}


def _load_unregistered(catalog: Any, name: str) -> Any:
    """Register a name in place when detectron2 looks it up; installed as `__missing__` below."""
    if not isinstance(name, str) or not name.startswith(tuple(_IN_PLACE)):
        raise KeyError(name)
    register_in_place([name])
    return catalog.data[name]


# DatasetCatalog is a UserDict, which calls its class's `__missing__` for unknown names.
type(DatasetCatalog).__missing__ = _load_unregistered  # type: ignore[attr-defined]
