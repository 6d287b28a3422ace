"""Instances in the folder layout of PASCAL VOC: `voc:DIR`, or `voc:DIR:SPLIT`.

CVAT ("Segmentation mask"), datumaro and labelme's labelme2voc.py write this layout: the folders
JPEGImages, SegmentationClass and SegmentationObject, and a text file of class names.

Shape letters: H W height and width of an image.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import DataError
from ...files import expand_path
from ...progress import Progress
from ..loading.images import read_image_size
from .reread import read_once
from .text_files import is_file, read_lines
from .voc import VOC_CLASSES, image_file, load_image, open_picture, read_values

PREFIX = "voc:"
# The names that these tools give to labels that are not classes.
_BACKGROUND = {"background", "_background_", "__background__"}
_IGNORED = {"__ignore__", "_ignore_", "void"}

Colour = tuple[int, int, int]


def register_voc_folder(name: str) -> None:
    """Register a dataset that is named in place.

    Args:
        name: `voc:DIR` or `voc:DIR:SPLIT`.

    Raises:
        DataError: the name lacks a part, or a folder or the split does not exist.
    """
    parts = name.removeprefix(PREFIX).split(":")
    if len(parts) > 2 or not all(parts):
        raise DataError(f"Dataset {name!r}: write voc:DIR or voc:DIR:SPLIT; no colons in paths.")
    root, split = Path(expand_path(parts[0])), parts[1] if len(parts) > 1 else ""
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        if not (root / folder).is_dir():
            raise DataError(
                f"Dataset {name!r}: there is no folder {root / folder}. Name the folder that has "
                "JPEGImages, SegmentationClass and SegmentationObject; if JPEGImages is missing, "
                "export the dataset with its images."
            )
    classes, colours = read_classes(root)
    _names(root, split)
    load = partial(load_voc_folder, root, split, tuple(classes), tuple(colours))
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(thing_classes=classes, evaluator_type="coco")


def read_classes(root: Path) -> tuple[list[str], list[Colour]]:
    """Read the class names of a folder, and their colours if a file has them.

    `labelmap.txt` has lines of the form `name:red,green,blue:parts:actions`, and `class_names.txt`
    one name per line. Without either file the classes are PASCAL VOC's.

    Returns:
        Names, and RGB colours of the same length; no colours if they are unknown.

    Raises:
        DataError: a line is invalid, or there are no classes.
    """
    file = root / "labelmap.txt"
    if not file.is_file():
        named = root / "class_names.txt"
        if not named.is_file():
            return list(VOC_CLASSES), []
        return [x for x in read_lines(named) if x and x.lower() not in _BACKGROUND | _IGNORED], []
    names: list[str] = []
    colours: list[Colour] = []
    for number, line in enumerate(read_lines(file), start=1):
        if not line or line.startswith("#"):
            continue
        label, _, rest = line.partition(":")
        given = rest.partition(":")[0].strip()
        try:
            # datumaro omits colours that are those of VOC's palette.
            values = given.split(",") if given or not rest else voc_colour(len(names) + 1)
            red, green, blue = (int(value) for value in values)
        except ValueError as error:
            raise DataError(
                f"{file}: line {number} is {line!r}; write name:red,green,blue:parts:actions."
            ) from error
        if label.lower() not in _BACKGROUND | _IGNORED:
            names.append(label)
            colours.append((red, green, blue))
    if not names:
        raise DataError(
            f"{file} names no classes. Write a line name:red,green,blue:parts:actions for each."
        )
    return names, colours


def voc_colour(index: int) -> Colour:
    """Return the colour of a class in VOC's palette.

    The bits of the index, from the lowest, go to red, green and blue in turn, as their bits from
    the highest.

    Args:
        index: of the class, counted from 1.
    """
    red = green = blue = 0
    for place in range(7, -1, -1):
        red |= (index & 1) << place
        green |= (index >> 1 & 1) << place
        blue |= (index >> 2 & 1) << place
        index >>= 3
    return red, green, blue


def load_voc_folder(
    root: Path, split: str, classes: tuple[str, ...], colours: tuple[Colour, ...]
) -> list[dict[str, Any]]:
    """Return detectron2's dicts; see `voc.load_image`.

    Args:
        root: the folder of the dataset.
        split: name of the split; "" is `train`, or all images if there are no splits.
        classes: names of the classes.
        colours: their colours in SegmentationClass; empty if its values are class indices.

    Raises:
        DataError: files are missing, or contradict each other.
    """
    return [{**record} for record in _load(root, split, classes, colours)]


@read_once(lambda root, *rest: (root,))
def _load(
    root: Path, split: str, classes: tuple[str, ...], colours: tuple[Colour, ...]
) -> list[dict[str, Any]]:
    names = _names(root, split)
    drawn = {name for name in names if is_file(root / "SegmentationObject" / f"{name}.png")}
    if not drawn:
        raise DataError(
            f"{root / 'SegmentationObject'} has no masks of the {len(names)} images. Export the "
            "dataset with masks."
        )
    read = partial(_read_colours, colours=colours) if colours else read_values
    records = [
        load_image(root, name, classes, read)
        if name in drawn
        else image_without_objects(root, name)
        for name in Progress(names, unit=" images", delay=1, leave=False)
    ]
    missing = [r["file_name"] for r in records if not is_file(Path(r["file_name"]))]
    if missing:
        raise DataError(
            f"{root} lacks {len(missing)} images of {len(records)}; the first is {missing[0]}. "
            "Export the dataset with its images, or copy them there."
        )
    return records


def image_without_objects(root: Path, name: str) -> dict[str, Any]:
    """Return the dict of an image without objects, for which datumaro writes no mask."""
    path = image_file(root, name)
    height, width = read_image_size(path) if is_file(Path(path)) else (0, 0)
    size = {"height": height, "width": width}
    return {"file_name": path, "image_id": name, "annotations": []} | size


def _names(root: Path, split: str) -> list[str]:
    """Return the names of a split's images; without lists of splits, all of SegmentationObject."""
    lists = {path.stem: path for path in sorted((root / "ImageSets/Segmentation").glob("*.txt"))}
    key = split or ("train" if "train" in lists else next(iter(lists), ""))
    if key in lists:
        # datumaro puts names that have spaces into quotes.
        return [name.strip('"') for name in read_lines(lists[key]) if name]
    if split:
        raise DataError(
            f"{root} has no split {split!r}; it has {', '.join(lists) or 'none'}. Write voc:DIR"
            + (f":{next(iter(lists))}." if lists else " to read all of it.")
        )
    return sorted(path.stem for path in (root / "SegmentationObject").glob("*.png"))


def _read_colours(path: Path, *, colours: tuple[Colour, ...]) -> np.ndarray:
    """Read a label image in the label map's colours: int64 [H, W], classes from 1, 0 for none."""
    with open_picture(path) as image:
        plain = image.mode in ("L", "I", "I;16")
        given = np.asarray(image if plain else image.convert("RGB"))
    if plain:
        return given.astype(np.int64)
    classes = np.zeros(given.shape[:2], np.int64)
    for number, colour in enumerate(colours, start=1):
        classes[(given == colour).all(axis=2)] = number
    return classes
