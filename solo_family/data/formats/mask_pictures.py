"""Instance masks stored as image files: `masks:IMAGE_DIR:MASK_DIR[:CLASSES]`.

Shape letters: H W height and width of an image.
"""

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util

from ...errors import DataError
from ...files import expand_path
from ...pictures.formats import SUFFIXES
from ...progress import Progress
from ..loading.images import read_image_size
from .label_maps import jpeg_error
from .mask_files import has_labels, numbers_of_colours, read_masks
from .reread import read_once
from .semantic_dataset import read_class_names
from .text_files import files_below

PREFIX = "masks:"
_JPEGS = (".jpg", ".jpeg", ".jfif")
_MASKS = (".png", ".tif", ".tiff", ".bmp")
_CLASS = "object"


def register_masks(name: str) -> None:
    """Register a dataset that is named in place; see `load_masks`.

    Raises:
        DataError: the name lacks a part, or a folder does not exist.
    """
    parts = name.removeprefix(PREFIX).split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise DataError(
            f"Dataset {name!r}: write masks:IMAGE_DIR:MASK_DIR or masks:IMAGE_DIR:MASK_DIR:CLASSES;"
            " no colons in paths."
        )
    image_dir, mask_dir = (expand_path(part) for part in parts[:2])
    for folder in (image_dir, mask_dir):
        if not os.path.isdir(folder):
            raise DataError(f"Dataset {name!r}: there is no folder {folder}. Correct the path.")
    classes = read_class_names(parts[2]) if len(parts) == 3 else [_CLASS]
    DatasetCatalog.register(name, partial(load_masks, image_dir, mask_dir, tuple(classes)))
    MetadataCatalog.get(name).set(thing_classes=classes, evaluator_type="coco")


def load_masks(image_dir: str, mask_dir: str, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return detectron2's dicts, with masks as RLE.

    The masks of the image `IMAGE_DIR/a/b.jpg` are stored in one of two ways:

    - one file for all objects, `MASK_DIR/a/b.png`, with the value 0 for background and another
      value, or colour, for each object;
    - one file per object, with 0 for background and any other value for the object. These files are
      all files in the folder `MASK_DIR/a/b`, or all whose name begins with `MASK_DIR/a/b_`, or, if
      the image is the only one in a folder `images`, all files in the folder `masks` beside it.
      With several classes, the name of each file contains the name of its class. If an image has
      one such file, and this has several values, each of them is an object.

    In both, each page of a TIFF is an object.

    Args:
        image_dir: the folder of the images; subfolders are searched.
        mask_dir: the folder of the masks.
        classes: names of the classes.

    Raises:
        DataError: an image has no masks, or a mask can't be read, has another size than its image,
            or has no class.
    """
    return [{**record} for record in _load(image_dir, mask_dir, classes)]


@read_once(lambda image_dir, mask_dir, classes: (image_dir, mask_dir))
def _load(image_dir: str, mask_dir: str, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    masks = [path for path in files_below(mask_dir) if path.suffix.lower() in _MASKS]
    by_folder: dict[Path, list[Path]] = {}
    for mask in masks:
        by_folder.setdefault(mask.parent, []).append(mask)
    images = [path for path in files_below(image_dir) if _is_image(path)]
    if image_dir == mask_dir:
        images = [path for path in images if path.parent.name == "images"]
    if not images:
        raise DataError(
            f"{image_dir} has no images ({', '.join(SUFFIXES)}). Name the folder that they are in."
        )
    records = []
    for number, image in enumerate(Progress(images, unit=" images", delay=1, leave=False), start=1):
        height, width = read_image_size(str(image))
        place = Path(mask_dir) / image.relative_to(image_dir).with_suffix("")
        files, indexed = _find_masks(image, place, by_folder)
        read = _read_indexed if indexed else _read_alone if len(files) == 1 else _read_single
        annotations = [
            annotation
            for file in files
            for annotation in read(file, place.name, classes, (height, width), image)
        ]
        size = {"height": height, "width": width}
        records.append(
            {"file_name": str(image), "image_id": number, "annotations": annotations} | size
        )
    return records


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _find_masks(
    image: Path, place: Path, by_folder: dict[Path, list[Path]]
) -> tuple[list[Path], bool]:
    """Return the mask files of an image, and whether it is one file for all objects."""
    siblings = by_folder.get(place.parent, [])
    whole = [path for path in siblings if path.stem == place.name and path != image]
    if whole:
        return whole[:1], True
    if place.is_dir():
        return by_folder.get(place, []), False
    beside = image.parent.with_name("masks")
    if image.parent.name == "images" and beside in by_folder and _is_alone(image):
        return by_folder[beside], False
    begun = re.compile(re.escape(place.name) + "[_.-].")
    parts = [path for path in siblings if begun.match(path.stem)]
    if not parts:
        _refuse_jpegs(image, place, begun)
        raise DataError(
            f"{image} has no masks: there is neither {place}.png nor {place}_1.png nor a folder "
            f"{place}. Add one of these; if the image has no objects, make an empty folder {place}."
        )
    return parts, False


def _refuse_jpegs(image: Path, place: Path, begun: re.Pattern[str]) -> None:
    """Refuse masks of an image that are JPEGs, which is why none is found."""
    if not place.parent.is_dir() or place.parent.samefile(image.parent):
        return  # where JPEGs are images
    for path in sorted(place.parent.iterdir()):
        is_mask = path.stem == place.name or begun.match(path.stem)
        if is_mask and path.suffix.lower() in _JPEGS:
            raise jpeg_error(path)


def _is_alone(image: Path) -> bool:
    return sum(_is_image(path) for path in image.parent.iterdir()) == 1


def _read_indexed(
    file: Path, stem: str, classes: Sequence[str], size: tuple[int, int], image: Path
) -> list[dict[str, Any]]:
    pages = read_masks(file, size, image)
    if len(classes) > 1:
        raise DataError(
            f"{file} has all objects of an image and no classes, but the dataset names "
            f"{len(classes)} classes. Name one class only, or write one file per object with its "
            "class in the file name."
        )
    if len(pages) > 1:
        return _annotations_of(file, stem, classes, _covered(pages))
    return [_annotation(mask, 0) for mask in _masks_of_values(pages[0])]


def _covered(pages: list[np.ndarray]) -> list[np.ndarray]:
    """Return the pixels that are not 0, bool [H, W], of each page."""
    return [values.reshape(*values.shape[:2], -1).max(axis=2) > 0 for values in pages]


def _masks_of_values(values: np.ndarray) -> list[np.ndarray]:
    """Return a mask, bool [H, W], for each value or colour other than 0."""
    if values.ndim == 3:  # a colour for each object
        values = numbers_of_colours(values)
    return [values == value for value in np.unique(values) if value]


def _read_single(
    file: Path, stem: str, classes: Sequence[str], size: tuple[int, int], image: Path
) -> list[dict[str, Any]]:
    return _annotations_of(file, stem, classes, _covered(read_masks(file, size, image)))


def _read_alone(
    file: Path, stem: str, classes: Sequence[str], size: tuple[int, int], image: Path
) -> list[dict[str, Any]]:
    """Read the only file of an image that has not its name: of one object, or all of a class.

    Tools add something to the name: `b_cp_masks.png` (Cellpose), `b-labels.tif` (napari, QuPath).
    """
    pages = read_masks(file, size, image)
    if len(pages) > 1 or not has_labels(pages[0]):
        return _read_single(file, stem, classes, size, image)
    return _annotations_of(file, stem, classes, _masks_of_values(pages[0]))


def _annotations_of(
    file: Path, stem: str, classes: Sequence[str], masks: list[np.ndarray]
) -> list[dict[str, Any]]:
    drawn = [mask for mask in masks if mask.any()]
    label = _class_of(file, stem, classes) if drawn else 0
    return [_annotation(mask, label) for mask in drawn]


def _class_of(file: Path, stem: str, classes: Sequence[str]) -> int:
    if len(classes) == 1:
        return 0
    rest = file.stem.removeprefix(stem)
    words = f"_{re.sub('[-. ]', '_', rest)}_"
    named = [i for i, label in enumerate(classes) if f"_{re.sub('[-. ]', '_', label)}_" in words]
    if len(named) != 1:
        raise DataError(
            f"{file} has {'no' if not named else 'more than one'} class in its name; the classes "
            f"are {', '.join(classes)}. Rename it, for instance to "
            f"{stem}_{classes[0]}_1{file.suffix}."
        )
    return named[0]


def _annotation(mask: np.ndarray, label: int) -> dict[str, Any]:
    rle = mask_util.encode(np.asfortranarray(mask, np.uint8))
    return {
        "category_id": label,
        "segmentation": rle,
        "bbox": mask_util.toBbox(rle).tolist(),
        "bbox_mode": BoxMode.XYWH_ABS,
        "iscrowd": 0,
    }
