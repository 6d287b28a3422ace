"""Finds all that is wrong with a COCO-format dataset, where loading it stops at the first mistake.

G objects that training learns.
"""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.utils.file_io import PathManager
from pycocotools import mask as mask_util
from tqdm import tqdm

from ..errors import DataError
from . import findings
from .coco_json import compressed, read_coco_json, usable_segmentation
from .findings import Kind
from .images import read_image, read_image_size

# A box is around its mask if no side is further off than this many pixels, or this share of the
# larger side of the two.
_NEAR_PIXELS, _NEAR_SHARE = 2.0, 0.1
# Polygons further outside than so many images would take all memory to draw.
_FAR = 10
_SECONDS_WITHOUT_PROGRESS = 1


@dataclass
class DatasetCheck:
    """What was found in a dataset.

    Attributes:
        num_images, num_annotations, num_categories: of the json.
        found: by kind, what: ids or files, in the order of the json.
        boxes: [G, 4], x0 y0 x1 y1 in pixels of the image, cut off at its border.
        image_sizes: [G, 2], height and width of each object's image, in pixels.
        areas: [G], of the masks, in pixels.
    """

    num_images: int
    num_annotations: int
    num_categories: int
    found: dict[Kind, list[str]] = field(default_factory=lambda: defaultdict(list))
    boxes: list[list[float]] = field(default_factory=list)
    image_sizes: list[tuple[int, int]] = field(default_factory=list)
    areas: list[int] = field(default_factory=list)

    @property
    def problems(self) -> list[Kind]:
        """The kinds that need mending, of those that were found."""
        return [kind for kind in findings.KINDS if kind.remedy and kind in self.found]

    @property
    def remarks(self) -> list[Kind]:
        """The kinds that may be as they are meant, of those that were found."""
        return [kind for kind in findings.KINDS if not kind.remedy and kind in self.found]


def check_coco_dataset(
    annotations: str, image_dir: str, *, decode_images: bool = False
) -> DatasetCheck:
    """Looks at every image and annotation.

    Args:
        annotations: the json file.
        image_dir: what its `file_name`s are relative to.
        decode_images: read all of every image, instead of the headers alone: finds files that are
            cut short, and takes as long as reading them in training does.

    Raises:
        DataError: the json can't be read, or isn't in COCO's format (see `read_coco_json`).
    """
    content = read_coco_json(annotations)
    annotated = content.get("annotations", [])
    check = DatasetCheck(len(content["images"]), len(annotated), len(content["categories"]))
    for part, kind in (
        ("images", findings.IMAGE_ID),
        ("annotations", findings.ANNOTATION_ID),
        ("categories", findings.CATEGORY_ID),
    ):
        _check_ids(check, part, kind, [item["id"] for item in content.get(part, [])])
    for image in _progress(content["images"], "images"):
        _check_file(check, image, image_dir, decode_images)
    images = {_hashable(image["id"]): image for image in content["images"]}
    categories = {_hashable(category["id"]): category["name"] for category in content["categories"]}
    with_objects = set()
    for annotation in _progress(annotated, "annotations"):
        image_id = _hashable(annotation.get("image_id"))
        category_id = _hashable(annotation.get("category_id"))
        if image_id not in images:
            check.found[findings.UNKNOWN_IMAGE].append(f"{_name(annotation)}: image {image_id}")
        if category_id not in categories:
            check.found[findings.UNKNOWN_CATEGORY].append(
                f"{_name(annotation)}: category {category_id}"
            )
        with_objects |= {("image", image_id), ("category", category_id)}
        _check_annotation(check, annotation, images.get(image_id))
    if annotated:
        for part, items, kind in (
            ("image", {key: item["file_name"] for key, item in images.items()}, _EMPTY["image"]),
            ("category", categories, _EMPTY["category"]),
        ):
            empty = [str(name) for key, name in items.items() if (part, key) not in with_objects]
            if empty:
                check.found[kind] = empty
    return check


_EMPTY = {"image": findings.EMPTY_IMAGE, "category": findings.EMPTY_CATEGORY}


def _progress(items: list[Any], unit: str) -> Iterable[Any]:
    return tqdm(items, unit=f" {unit}", delay=_SECONDS_WITHOUT_PROGRESS, leave=False)


def _hashable(identity: Any) -> Any:
    return identity if isinstance(identity, int | float | str | None) else repr(identity)


def _name(annotation: dict[str, Any]) -> str:
    return f"annotation {annotation['id']}"


def _check_ids(check: DatasetCheck, part: str, kind: Kind, ids: list[Any]) -> None:
    odd = [f"{identity!r} in {part}" for identity in ids if not isinstance(identity, int | str)]
    twice = [str(key) for key, count in Counter(map(_hashable, ids)).items() if count > 1]
    for found, what in ((findings.ODD_ID, odd), (kind, twice)):
        if what:
            check.found[found] += what


def _check_file(check: DatasetCheck, image: dict[str, Any], image_dir: str, decode: bool) -> None:
    name = str(image["file_name"])
    path = os.path.join(image_dir, name)
    if not PathManager.isfile(path):
        check.found[findings.MISSING_FILE].append(name)
        return
    try:
        height, width = read_image(path, "RGB").shape[:2] if decode else read_image_size(path)
    except DataError:
        check.found[findings.UNREADABLE_FILE].append(name)
        return
    if (image["height"], image["width"]) != (height, width):
        said = f"{image['height']} x {image['width']}"
        check.found[findings.OTHER_SIZE].append(f"{name}: {said}, is {height} x {width}")


def _check_annotation(
    check: DatasetCheck, annotation: dict[str, Any], image: dict[str, Any] | None
) -> None:
    name = _name(annotation)
    if "area" not in annotation or "iscrowd" not in annotation:
        check.found[findings.NO_AREA].append(name)
    if annotation.get("iscrowd"):
        check.found[findings.CROWD].append(name)
    box = _corners(annotation["bbox"])
    if box is None:
        check.found[findings.ODD_BOX].append(f"{name}: {annotation['bbox']}")
    if image is None:
        return
    name = f"{name} in {image['file_name']}"
    size = (image["height"], image["width"])
    if not all(isinstance(side, int) and side > 0 for side in size):
        return  # It was found with the file.
    if box is not None:
        box = _check_box(check, name, annotation["bbox"], box, size)
    measured = _check_mask(check, name, annotation.get("segmentation"), size)
    if box is None or measured is None or annotation.get("iscrowd"):
        return
    area, mask_box = measured
    if not _near(box, mask_box):
        rounded = [round(side, 1) for side in _left_top_size(mask_box)]
        check.found[findings.BOX_ELSEWHERE].append(f"{name}: {annotation['bbox']}, mask {rounded}")
    check.boxes.append(box)
    check.image_sizes.append(size)
    check.areas.append(area)


def _corners(box: Any) -> list[float] | None:
    """Returns x0 y0 x1 y1 of COCO's left, top, width, height; None where they are no numbers."""
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
        return None
    left, top, width, height = box
    return [left, top, left + width, top + height]


def _left_top_size(box: list[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _check_box(
    check: DatasetCheck, name: str, given: Any, box: list[float], size: tuple[int, int]
) -> list[float] | None:
    """Returns the part of a box in the image, or None if there is none."""
    height, width = size
    inside = np.clip(box, 0, [width, height, width, height]).tolist()
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        check.found[findings.EMPTY_BOX].append(f"{name}: {given}")
        return None
    if max(abs(a - b) for a, b in zip(box, inside)) > 1:
        check.found[findings.BOX_OUTSIDE].append(f"{name}: {given}, image {height} x {width}")
    return inside


def _check_mask(
    check: DatasetCheck, name: str, segmentation: Any, size: tuple[int, int]
) -> tuple[int, list[float]] | None:
    """Returns a mask's pixels and the corners of the box around it, or None if it has none."""
    usable = usable_segmentation(segmentation, size)
    if usable is None:
        is_rle = isinstance(segmentation, dict) and segmentation
        kind = findings.MASK_OF_OTHER_SIZE if is_rle else findings.NO_MASK
        check.found[kind].append(name)
        return None
    try:
        rle = _to_rle(usable, size)
    except Exception:  # pycocotools raises whatever a broken mask provokes
        check.found[findings.BROKEN_MASK].append(name)
        return None
    area = int(mask_util.area(rle))
    if not area:
        check.found[findings.EMPTY_MASK].append(name)
        return None
    left, top, width, height = mask_util.toBbox(rle).tolist()
    return area, [left, top, left + width, top + height]


def _to_rle(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    height, width = size
    if isinstance(segmentation, list):
        far = _FAR * max(size)
        if not all(_is_finite(v) and abs(v) <= far for polygon in segmentation for v in polygon):
            raise ValueError("coordinates")
        return mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    counts = segmentation["counts"]
    if isinstance(counts, list) and sum(counts) != height * width:
        raise ValueError("counts")
    rle = compressed(segmentation)
    mask_util.decode(rle)  # counts of more pixels than there are
    return rle


def _near(one: list[float], other: list[float]) -> bool:
    sides = _left_top_size(one)[2:] + _left_top_size(other)[2:]
    tolerance = max(_NEAR_PIXELS, _NEAR_SHARE * max(sides))
    return all(abs(a - b) <= tolerance for a, b in zip(one, other))
