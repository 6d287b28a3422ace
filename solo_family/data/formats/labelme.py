"""Reads what labelme writes, a json beside each image, as a dataset in COCO's format."""

import json
import logging
import math
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_util
from tqdm import tqdm

from ...errors import DataError
from ..loading.images import read_image_size

logger = logging.getLogger(__name__)

_CIRCLE_POINTS = 64


@dataclass
class _Outlines:
    """One object: its category, and its polygons [x, y, x, y, ...] in pixels."""

    label: str
    polygons: list[list[float]]


@dataclass
class _Picture:
    file_name: str  # relative to the folder
    height: int
    width: int
    objects: list[_Outlines]


def read_labelme(folder: Path, ignored: Collection[Path] = ()) -> tuple[dict[str, Any], list[str]]:
    """Reads a folder, and those in it.

    Polygons, rectangles and circles become masks. Shapes of one `group_id` are parts of one object.
    Categories are the labels in alphabetic order.

    Args:
        folder: of the json files.
        ignored: json files that are not labelme's.

    Returns:
        The content of a COCO-format json, whose `file_name`s are relative to `folder`, and what was
        left out, by file and shape: points, lines, and what covers no pixel.

    Raises:
        DataError: there is no json, or one that isn't labelme's; an image is missing, or has two.
    """
    passed_over = {path.resolve() for path in ignored}
    files = [file for file in sorted(folder.rglob("*.json")) if file.resolve() not in passed_over]
    if not files:
        raise DataError(f"There is no json in {folder}. Name the folder that labelme writes to.")
    left_out: list[str] = []
    pictures: dict[str, _Picture] = {}
    for file in tqdm(files, unit="file", delay=1, leave=False):
        picture = _read_picture(file, folder, left_out)
        if picture.file_name in pictures:
            raise DataError(
                f"{file} is the second json of the image {picture.file_name}. Remove one of them."
            )
        pictures[picture.file_name] = picture
    return _to_coco(list(pictures.values())), left_out


def _to_coco(pictures: list[_Picture]) -> dict[str, Any]:
    labels = sorted({thing.label for picture in pictures for thing in picture.objects})
    if not labels:
        raise DataError("No file of labelme's has a polygon, rectangle or circle. Draw some.")
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
            rle = _rle(thing.polygons, picture.height, picture.width)
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": ids[thing.label],
                    "segmentation": thing.polygons,
                    "bbox": mask_util.toBbox(rle).tolist(),
                    "area": int(mask_util.area(rle)),
                    "iscrowd": 0,
                }
            )
    return content


def _rle(polygons: list[list[float]], height: int, width: int) -> dict[str, Any]:
    return mask_util.merge(mask_util.frPyObjects(polygons, height, width))


def _read_picture(file: Path, folder: Path, left_out: list[str]) -> _Picture:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} can't be read as labelme's json: {error}.") from error
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise DataError(
            f"{file} is not labelme's: it has no list of 'shapes'. Move it out of {folder}."
        )
    image = _find_image(file, content.get("imagePath"))
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
        height, width = read_image_size(str(image))
    name = Path(os.path.relpath(image, folder)).as_posix()
    if name.startswith("../"):
        raise DataError(
            f"{file}: its image {image} is outside of {folder}. Name the folder that holds both."
        )
    return _Picture(name, height, width, _read_objects(file, shapes, (height, width), left_out))


def _find_image(file: Path, named: Any) -> Path:
    """Returns the image of a json: where it says, also if it was moved together with the image."""
    said = Path(str(named or "").replace("\\", "/"))  # labelme on Windows
    for path in (file.parent / said, file.parent / said.name):
        if path.is_file():
            return path
    raise DataError(
        f"{file}: there is no image {file.parent / said}. Put it there, or correct 'imagePath'."
    )


def _read_objects(
    file: Path, shapes: list[dict[str, Any]], size: tuple[int, int], left_out: list[str]
) -> list[_Outlines]:
    objects: dict[Any, _Outlines] = {}
    for index, shape in enumerate(shapes):
        label = str(shape.get("label"))
        name = f"{file}: shape {index} ({label})"
        polygon = _polygon(name, shape)
        if isinstance(polygon, str) or not mask_util.area(_rle([polygon], *size)):
            reason = polygon if isinstance(polygon, str) else "covers no pixel of the image"
            left_out.append(f"{name} {reason}")
            continue
        group = shape.get("group_id")
        key = ("shape", index) if group is None else ("group", str(group))
        thing = objects.setdefault(key, _Outlines(label, []))
        if thing.label != label:
            raise DataError(
                f"{name} has the group_id {group} of a {thing.label}. Parts of one object have "
                "one label; give one of the two another group_id."
            )
        thing.polygons.append(polygon)
    return list(objects.values())


def _polygon(name: str, shape: dict[str, Any]) -> list[float] | str:
    """Returns x, y, x, y, ... of a shape's outline, or the reason why it has none.

    Raises:
        DataError: its points are no points.
    """
    kind = shape.get("shape_type") or "polygon"  # old versions don't say it
    try:
        points = np.array(shape["points"], dtype=np.float64).reshape(-1, 2)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{name} has no 'points' [[x, y], ...]. Draw it anew.") from error
    if not np.isfinite(points).all():
        raise DataError(f"{name} has points that are no numbers. Draw it anew.")
    least = {"polygon": 3, "rectangle": 2, "circle": 2}.get(kind)
    if least is None:
        return f"is a {kind}: only polygons, rectangles and circles have a mask"
    if len(points) < least:
        return f"is a {kind} of {len(points)} points, and {least} are needed"
    if kind == "rectangle":
        (left, top), (right, bottom) = points.min(0), points.max(0)
        points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    elif kind == "circle":
        centre, on_circle = points[:2]
        angles = np.linspace(0, 2 * math.pi, _CIRCLE_POINTS, endpoint=False)
        radius = np.linalg.norm(on_circle - centre)
        points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points.ravel().tolist()
