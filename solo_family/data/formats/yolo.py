"""Instances in the segmentation format of Ultralytics YOLO: `yolo:DIR`, or `yolo:DIR:SPLIT`.

Each image `images/.../NAME.jpg` has a text file `labels/.../NAME.txt` with one line per object: its
class, counted from 0, and its outline x y x y ..., as fractions of the image's width and height.
"""

import glob
import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ...errors import DataError, first_line
from ...files import expand_path
from ...pictures.formats import SUFFIXES
from ...progress import Progress
from ..loading.images import read_image_size
from .reread import read_once
from .text_files import exists, files_below, is_file, read_lines, read_text

logger = logging.getLogger(__name__)

PREFIX = "yolo:"
_YAML = ("data.yaml", "dataset.yaml", "data.yml")
_CLASSES = "classes.txt"
# Coordinates are fractions from 0 to 1. Values up to this one are accepted as rounding errors.
_MOST = 1.01
# How many coordinates four corners have.
_OF_CORNERS = 8


def register_yolo(name: str) -> None:
    """Register a dataset that is named in place.

    Args:
        name: `yolo:DIR` or `yolo:DIR:SPLIT`.

    Raises:
        DataError: the name lacks a part, or the folder, its class names or the split are missing.
    """
    parts = name.removeprefix(PREFIX).split(":")
    if len(parts) > 2 or not all(parts):
        raise DataError(f"Dataset {name!r}: write yolo:DIR or yolo:DIR:SPLIT; no colons in paths.")
    folder = Path(expand_path(parts[0]))
    description = read_description(folder)
    if "kpt_shape" in description:
        raise DataError(
            f"Dataset {name!r} is one of poses: {_YAML[0]} has 'kpt_shape', with which a line has "
            "a box and points in it, and no outline. Export it for segmentation, with outlines."
        )
    split = parts[1] if len(parts) > 1 else ""
    folders = find_images(folder, description, split)
    DatasetCatalog.register(name, partial(load_yolo, tuple(folders), len(description["names"])))
    MetadataCatalog.get(name).set(thing_classes=description["names"], evaluator_type="coco")


def read_description(folder: Path) -> dict[str, Any]:
    """Return the description of a dataset: `data.yaml`, or the names in Label Studio's classes.txt.

    Returns:
        The content of `data.yaml`, in which `names` is a list; or only `names`.

    Raises:
        DataError: neither file exists, or it names no classes.
    """
    for file in (folder / name for name in _YAML):
        if not file.is_file():
            continue
        try:
            content = yaml.safe_load(read_text(file))
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise DataError(f"{file} is not YAML: {first_line(error)}. Export it again.") from error
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, dict):
            if {str(key) for key in names} != {str(index) for index in range(len(names))}:
                raise DataError(
                    f"{file} numbers its classes {', '.join(map(str, names))}; outlines are of "
                    f"classes from 0 without gaps. Name all from 0 to {len(names) - 1}."
                )
            names = [names[key] for key in sorted(names, key=int)]
        if not isinstance(names, list) or not names:
            raise DataError(
                f"{file} has no class names. Write them, for instance names: [cat, dog]."
            )
        return {**content, "names": [str(label) for label in names]}
    if (folder / _CLASSES).is_file():
        return {"names": [line for line in read_lines(folder / _CLASSES) if line]}
    raise DataError(
        f"{folder} has neither {_YAML[0]} nor {_CLASSES}, which name the classes. Name the folder "
        f"that has one of them, or write {_CLASSES} with one class name per line."
    )


def find_images(folder: Path, description: dict[str, Any], split: str) -> list[str]:
    """Return the image folders, or the text files that list images, of a split.

    Args:
        folder: the folder of the dataset.
        description: what `read_description` returns.
        split: name of the split; "" is `train`, or the folder `images` if there are no splits.

    Raises:
        DataError: the dataset has no such split, or the split's folder does not exist.
    """
    key = split or ("train" if "train" in description else "")
    if not key:
        return [str(folder / "images")]
    given = description.get(key)
    if not given:
        known = [k for k in ("train", "val", "test") if description.get(k)]
        raise DataError(
            f"{folder} has no split {key!r}; it has {', '.join(known) or 'none'}. Write yolo:DIR"
            + (f":{known[0]}." if known else " to read all of it.")
        )
    root = folder / str(description.get("path") or "")
    found = []
    for part in given if isinstance(given, list) else [given]:
        # Roboflow's paths are relative to a subfolder; Ultralytics YOLO corrects them, too.
        places = [root / str(part), folder / str(part), folder / str(part).removeprefix("../")]
        path = next((place for place in places if exists(place)), None)
        if path is None:
            raise DataError(
                f"{folder}: the split {key!r} is in {part}, which does not exist. Correct '{key}' "
                f"in {_YAML[0]}."
            )
        found.append(str(path))
    return found


def _read_places(places: tuple[str, ...], num_classes: int) -> list[str | Path]:
    """Return the folders and files that `_load` reads."""
    found: list[str | Path] = [*places]
    for place in places:
        if os.path.isdir(place):
            found.append(_label_file(os.path.join(place, "any.jpg")).parent)
        elif os.path.isfile(place):
            images = _images(Path(place))
            found += [*images, *map(_label_file, images)]
    return found


@read_once(_read_places)
def _load(places: tuple[str, ...], num_classes: int) -> list[dict[str, Any]]:
    images = sorted({image for place in places for image in _images(Path(place))})
    if not images:
        raise DataError(
            f"{', '.join(places)} has no images. Name the folder that has the folder 'images'."
        )
    boxes, used = 0, set()
    records = []
    for number, image in enumerate(Progress(images, unit=" images", delay=1, leave=False), start=1):
        height, width = read_image_size(image)
        file = _label_file(image)
        used.add(file)
        annotations, left = _read_labels(file, num_classes, (height, width))
        boxes += left
        size = {"height": height, "width": width}
        records.append({"file_name": image, "image_id": number, "annotations": annotations} | size)
    _check_used(places, used)
    if boxes:
        logger.warning(
            "%s: dropped %d objects that have a box and no outline.", ", ".join(places), boxes
        )
    outlines = [item["segmentation"][0] for record in records for item in record["annotations"]]
    if outlines and all(len(outline) == _OF_CORNERS for outline in outlines):
        logger.warning(
            "%s: each of the %d outlines has four corners, as oriented boxes have (OBB): if they "
            "are such boxes, the masks are boxes, too. Export the outlines of the objects.",
            *(", ".join(places), len(outlines)),
        )
    return records


def load_yolo(places: tuple[str, ...], num_classes: int) -> list[dict[str, Any]]:
    """Return detectron2's dicts; an image without a text file has no objects.

    Args:
        places: the image folders, or text files that list images; see `find_images`.
        num_classes: number of classes.

    Raises:
        DataError: there are no images, no text file belongs to any, or a line is invalid; the
            message names the file and the line.
    """
    return [{**record} for record in _load(places, num_classes)]


def _images(place: Path) -> list[str]:
    if place.is_dir():
        return [str(path) for path in files_below(place) if path.suffix.lower() in SUFFIXES]
    lines = read_lines(place)  # a text file that lists images
    return [os.path.join(place.parent, line) for line in lines if line]


def _label_file(image: str) -> Path:
    """Return the text file of an image, in whose path the last folder `images` becomes `labels`."""
    parts = list(Path(image).with_suffix(".txt").parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    file = Path(*parts)
    if not is_file(file):
        # Label Studio adds a prefix of eight hexadecimal digits to the names of uploaded files.
        uploaded = list(file.parent.glob(f"{'[0-9a-f]' * 8}-{glob.escape(file.name)}"))
        return uploaded[0] if len(uploaded) == 1 else file
    return file


def _check_used(places: tuple[str, ...], used: set[Path]) -> None:
    """Check that text files belong to images, and warn of those that don't.

    Args:
        places: the image folders, for messages.
        used: the text files that images should have.

    Raises:
        DataError: no image has a text file.
    """
    there = {path for folder in {file.parent for file in used} for path in folder.glob("*.txt")}
    orphans = sorted(there - used - {folder.parent / _CLASSES for folder in there})
    if not there & used:
        raise DataError(
            f"{', '.join(places)}: no image has a text file in "
            f"{', '.join(sorted({str(file.parent) for file in used}))}. Put the text files into "
            "the folder 'labels' beside 'images', each with the name of its image."
        )
    if orphans:
        logger.warning("%d text files have no image; the first is %s.", len(orphans), orphans[0])


def _read_labels(
    file: Path, num_classes: int, size: tuple[int, int]
) -> tuple[list[dict[str, Any]], int]:
    """Return the annotations of a text file, and how many of its lines are boxes."""
    if not is_file(file):
        return [], 0
    annotations, boxes = [], 0
    for number, line in enumerate(read_lines(file), start=1):
        words = line.split()
        if not words:
            continue
        place = f"{file}: line {number}"
        try:
            label, *shares = (float(word) for word in words)
        except ValueError as error:
            raise DataError(
                f"{place} is invalid: {first_line(error)}. Write numbers only."
            ) from error
        if label not in range(num_classes):
            raise DataError(
                f"{place} has class {words[0]}, but the dataset names {num_classes} classes, 0 to "
                f"{num_classes - 1}. Name all classes."
            )
        if len(shares) == 4:
            boxes += 1
            continue
        if len(shares) < 6 or len(shares) % 2 or not all(-0.01 <= s <= _MOST for s in shares):
            raise DataError(
                f"{place} is not an outline: after the class it has {len(shares)} numbers, from "
                f"{min(shares, default=0):g} to {max(shares, default=0):g}. Write x y of at least "
                "3 points, as fractions of the image's width and height, from 0 to 1."
            )
        annotations.append(_annotation(int(label), shares, size))
    return annotations, boxes


def _annotation(label: int, shares: list[float], size: tuple[int, int]) -> dict[str, Any]:
    height, width = size
    polygon = [share * (height if index % 2 else width) for index, share in enumerate(shares)]
    xs, ys = polygon[::2], polygon[1::2]
    return {
        "category_id": label,
        "segmentation": [polygon],
        "bbox": [min(xs), min(ys), max(xs), max(ys)],
        "bbox_mode": BoxMode.XYXY_ABS,
        "iscrowd": 0,
    }
