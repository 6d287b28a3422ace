"""Datasets for semantic segmentation: a folder of images and a folder of label images."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import DataError
from ...pictures.formats import SUFFIXES
from ..loading.images import read_image_size
from .reread import read_once
from .text_files import files_below, read_lines

_LABELS = (".png", ".tif", ".tiff", ".bmp")


def register_semantic(
    name: str,
    image_dir: str,
    label_dir: str,
    classes: Sequence[str],
    *,
    ignore_label: int = 255,
    image_suffix: str = "",
    label_suffix: str = "",
) -> None:
    """Register a dataset for semantic segmentation in detectron2's catalogs.

    Args:
        name: name of the dataset for `DATASETS.TRAIN` and `DATASETS.TEST`.
        image_dir: folder of the images, which may be in subfolders.
        label_dir: folder of the label images, in the same subfolders under the same names; see
            `read_labels`.
        classes: the names of labels 0, 1, 2, ...
        ignore_label: the label of pixels without a class.
        image_suffix: the end of image names, before the extension, that label names don't have.
        label_suffix: the end of label names, before the extension, that image names don't have,
            for instance "_gtFine_labelTrainIds".
    """
    load = partial(load_semantic, image_dir, label_dir, image_suffix, label_suffix)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        stuff_classes=list(classes),
        ignore_label=ignore_label,
        image_root=image_dir,
        sem_seg_root=label_dir,
        evaluator_type="sem_seg",
    )


@read_once(lambda image_dir, label_dir, *rest: (image_dir, label_dir))
def _scan(
    image_dir: str, label_dir: str, image_suffix: str, label_suffix: str
) -> list[tuple[str, str, int, int]]:
    """Return path, label path, height and width of each image, sorted by name."""
    for folder in (image_dir, label_dir):
        if not os.path.isdir(folder):
            raise DataError(
                f"There is no folder {folder}, which the semantic dataset needs. Correct the path."
            )
    images = _files(image_dir, image_suffix, SUFFIXES)
    labels = _files(label_dir, label_suffix, _LABELS)
    if not labels:
        raise DataError(
            f"{label_dir} has no label images ({', '.join(_LABELS)}). Name the folder that has "
            "them."
        )
    missing = sorted(set(images) ^ set(labels))
    if missing:
        have = "label" if missing[0] in images else "image"
        raise DataError(
            f"{image_dir} has {len(images)} images and {label_dir} {len(labels)} labels; "
            f"{len(missing)} have no counterpart: there is no {have} for {missing[0]}. Give images "
            "and labels the same names, except for the extensions."
        )
    found = []
    for key in sorted(images):
        height, width = read_image_size(images[key])
        found.append((images[key], labels[key], height, width))
    return found


def load_semantic(
    image_dir: str, label_dir: str, image_suffix: str = "", label_suffix: str = ""
) -> list[dict[str, Any]]:
    """Return detectron2's dicts: `file_name`, `sem_seg_file_name`, `height`, `width`, `image_id`.

    Raises:
        DataError: a folder is missing or empty, an image can't be read, or an image or label has no
            counterpart.
    """
    return [
        {
            "file_name": image,
            "sem_seg_file_name": label,
            "height": height,
            "width": width,
            "image_id": index,
        }
        for index, (image, label, height, width) in enumerate(
            _scan(image_dir, label_dir, image_suffix, label_suffix)
        )
    ]


def read_class_names(classes: str) -> list[str]:
    """Return class names.

    Args:
        classes: names separated by commas, or the path of a text file with one name per line.

    Raises:
        DataError: the file does not exist, or there are no names.
    """
    if os.path.isfile(classes):
        names = read_lines(Path(classes))
    elif classes.endswith(".txt"):
        raise DataError(f"There is no file of class names {classes}. Correct the path.")
    else:
        names = [name.strip() for name in classes.split(",")]
    names = [name for name in names if name]
    if not names:
        raise DataError(
            f"{classes!r} names no classes. List them separated by commas, or name a text file "
            "with one class name per line."
        )
    return names


def _files(folder: str, suffix: str, extensions: Sequence[str]) -> dict[str, str]:
    found = {}
    for path in files_below(folder):
        if path.suffix.lower() in extensions and path.stem.endswith(suffix):
            key = path.relative_to(folder).with_suffix("").as_posix()
            found[key.removesuffix(suffix)] = str(path)
    return found
