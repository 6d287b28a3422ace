"""Conversion of labelme's annotations, a json beside each image, to COCO's format."""

import base64
import json
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_util

from ...errors import DataError
from ...files import replacing
from ...progress import Progress
from ..loading.images import read_image_size
from .coco_values import is_image_size
from .labelme_shapes import read_shape
from .text_files import files_below, folded, is_file

logger = logging.getLogger(__name__)

# labelme's own names for what is no class; its converters leave these shapes out, too.
_NO_CLASSES = ("__ignore__", "_background_")


@dataclass
class _Object:
    """An object: its label and its parts, which are polygons [x, y, ...] in pixels, and masks.

    Masks are bool [H, W], of the size of the image.
    """

    label: str
    polygons: list[list[float]] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)

    def add(self, part: list[float] | np.ndarray) -> None:
        """Add a polygon or a mask."""
        if isinstance(part, np.ndarray):
            self.masks.append(part)
        else:
            self.polygons.append(part)

    def rle(self, height: int, width: int) -> dict[str, Any]:
        """Return the union of all parts as compressed RLE."""
        parts = mask_util.frPyObjects(self.polygons, height, width) if self.polygons else []
        masks = [mask_util.encode(np.asfortranarray(mask, np.uint8)) for mask in self.masks]
        return mask_util.merge([*parts, *masks])


@dataclass
class _Picture:
    file_name: str  # relative to the folder
    height: int
    width: int
    objects: list[_Object]


def read_labelme(folder: Path, ignored: Collection[Path] = ()) -> tuple[dict[str, Any], list[str]]:
    """Read all json files of labelme's in a folder and its subfolders.

    Polygons, rectangles, circles and masks become masks. Shapes with the same label and `group_id`
    are parts of one object. Categories are the labels in alphabetical order. An image that is only
    embedded in its json (`imageData`) is written beside it.

    Args:
        folder: the folder to search.
        ignored: json files to skip because they are not labelme's.

    Returns:
        The content of a COCO-format json, whose `file_name`s are relative to `folder`; and a line
        for each thing that was dropped. These are points, lines, shapes that cover no pixel or are
        labelled as no class (`__ignore__`), and images all of whose shapes were dropped, which
        would be learnt as images without objects.

    Raises:
        DataError: there is no json file, one of them is not labelme's, an image is missing, or an
            image has two json files.
    """
    passed_over = {path.resolve() for path in ignored}
    jsons = (file for file in files_below(folder) if file.suffix == ".json")
    files = [file for file in jsons if file.resolve() not in passed_over]
    if not files:
        raise DataError(
            f"There is no json file in {folder}. Name the folder that labelme writes to."
        )
    left_out: list[str] = []
    pictures: dict[str, _Picture] = {}
    for file in Progress(files, unit="file", delay=1, leave=False):
        before = len(left_out)
        picture = _read_picture(file, folder, left_out)
        if picture.file_name in pictures:
            raise DataError(
                f"{file} is the second json file of the image {picture.file_name}. Remove one of "
                "them."
            )
        if len(left_out) > before and not picture.objects:
            left_out.append(f"{file}, the whole image: none of its shapes can be used")
            continue
        pictures[picture.file_name] = picture
    return _to_coco(list(pictures.values())), left_out


def _to_coco(pictures: list[_Picture]) -> dict[str, Any]:
    labels = sorted({thing.label for picture in pictures for thing in picture.objects})
    if not labels:
        raise DataError(
            "None of labelme's files has a polygon, rectangle, circle or mask. Draw some objects."
        )
    ids = {label: number for number, label in enumerate(labels, start=1)}
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": label} for label, number in ids.items()],
    }
    for image_id, picture in enumerate(pictures, start=1):
        size = {"height": picture.height, "width": picture.width}
        content["images"].append({"id": image_id, "file_name": picture.file_name} | size)
        for thing in picture.objects:
            rle = thing.rle(picture.height, picture.width)
            code = {"size": list(rle["size"]), "counts": rle["counts"].decode()}
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": ids[thing.label],
                    "segmentation": code if thing.masks else thing.polygons,
                    "bbox": mask_util.toBbox(rle).tolist(),
                    "area": int(mask_util.area(rle)),
                    "iscrowd": 0,
                }
            )
    return content


def _read_picture(file: Path, folder: Path, left_out: list[str]) -> _Picture:
    try:
        content = json.loads(file.read_bytes())  # of bytes the encoding is detected
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{file} can't be read as labelme's json: {error}. Save it again in labelme, or move "
            f"it out of {folder}."
        ) from error
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise DataError(
            f"{file} is not a file of labelme's: it has no list of 'shapes'. Move it out of "
            f"{folder}."
        )
    image = _find_image(file, content)
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if not is_image_size((height, width)):
        height, width = read_image_size(str(image))
    name = Path(os.path.relpath(image, folder)).as_posix()
    if name.startswith("../"):
        raise DataError(
            f"{file}: its image {image} is outside {folder}. Name the folder that has both."
        )
    return _Picture(name, height, width, _read_objects(file, shapes, (height, width), left_out))


def _find_image(file: Path, content: dict[str, Any]) -> Path:
    """Return the path of the image of a json, even if both were moved together.

    An image that is only embedded in the json is written beside it.
    """
    said = Path(str(content.get("imagePath") or "").replace("\\", "/"))  # labelme on Windows
    for path in (file.parent / said, file.parent / said.name):
        if is_file(path):
            return path
    if not content.get("imageData"):
        name = folded(said.name)
        alike = [path for path in file.parent.iterdir() if folded(path.name) == name]
        if len(alike) == 1 and is_file(alike[0]):
            return alike[0]
        raise DataError(
            f"{file}: there is no image {file.parent / said}. Copy it there, or correct "
            "'imagePath' in the json."
        )
    path = file.parent / (said.name or f"{file.stem}.png")
    try:
        encoded = base64.b64decode(content["imageData"], validate=True)
        with replacing(path) as temporary:
            temporary.write_bytes(encoded)
    except (OSError, TypeError, ValueError) as error:
        raise DataError(
            f"{file}: the image in 'imageData' can't be written to {path} ({error}). Copy the "
            "image there."
        ) from error
    return path


def _read_objects(
    file: Path, shapes: list[dict[str, Any]], size: tuple[int, int], left_out: list[str]
) -> list[_Object]:
    objects: dict[Any, _Object] = {}
    for index, shape in enumerate(shapes):
        label = str(shape.get("label"))
        name = f"{file}: shape {index} ({label})"
        if label in _NO_CLASSES:
            left_out.append(f"{name} has labelme's name for what is no class")
            continue
        part = read_shape(name, shape, size)
        reason = part if isinstance(part, str) else ""
        if not isinstance(part, str):
            alone = _Object(label)
            alone.add(part)
            if not mask_util.area(alone.rle(*size)):
                reason = "covers no pixel of the image"
        if reason or isinstance(part, str):
            left_out.append(f"{name} {reason}")
            continue
        group = shape.get("group_id")
        key = ("shape", index) if group is None else (label, str(group))
        objects.setdefault(key, _Object(label)).add(part)
    return list(objects.values())
