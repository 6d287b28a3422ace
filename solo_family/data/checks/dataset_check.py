"""Finds all that is wrong with a COCO-format dataset, where loading it stops at the first mistake.

G objects that training learns.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from ...errors import DataError
from ..formats import segmentation
from ..formats.coco_file import CocoFile, read_coco_file
from ..formats.coco_values import is_box
from ..formats.crowds import OBJECTS, are_of_a_tool
from ..formats.image_files import ImageFiles
from ..formats.segmentation import measure_mask, usable_segmentation
from ..loading.images import read_image, read_image_size
from . import findings
from .findings import Kind

# A box is around its mask if no side is further off than so many pixels, or this share of the
# longest side of the two.
_NEAR_PIXELS, _NEAR_SHARE = 2.0, 0.1
_SECONDS_WITHOUT_PROGRESS = 1
_LEFT_OUT = {
    segmentation.WITHOUT: findings.NO_MASK,
    segmentation.SHORT: findings.NO_MASK,
    segmentation.FAR: findings.BROKEN_MASK,
    segmentation.UNFILLED: findings.BROKEN_MASK,
    segmentation.MISFIT: findings.MASK_OF_OTHER_SIZE,
}
_IDS = {
    "images": findings.IMAGE_ID,
    "annotations": findings.ANNOTATION_ID,
    "categories": findings.CATEGORY_ID,
}


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
    found: dict[Kind, list[str]] = field(default_factory=dict)
    boxes: list[list[float]] = field(default_factory=list)
    image_sizes: list[tuple[int, int]] = field(default_factory=list)
    areas: list[int] = field(default_factory=list)

    def add(self, kind: Kind, *what: str) -> None:
        """Takes note of what is of a kind."""
        if what:
            self.found.setdefault(kind, []).extend(what)

    @property
    def problems(self) -> list[Kind]:
        """The kinds that need mending, of those that were found."""
        return [kind for kind in findings.KINDS if kind.remedy and kind in self.found]

    @property
    def remarks(self) -> list[Kind]:
        """The kinds that may be as they are meant, of those that were found."""
        return [kind for kind in findings.KINDS if not kind.remedy and kind in self.found]


def check_coco_dataset(
    annotations: str, image_dir: str, *, crowd: str = "", decode_images: bool = False
) -> DatasetCheck:
    """Looks at every image and annotation.

    Args:
        annotations: the json file.
        image_dir: what its `file_name`s are relative to.
        crowd: "objects" reads crowds as objects.
        decode_images: read all of every image, instead of the headers alone: finds files that are
            cut short, and takes as long as reading them in training does.

    Raises:
        DataError: the json can't be read, or isn't in COCO's format (see `parse`).
    """
    file = read_coco_file(annotations, image_dir)
    return check_dataset(file, image_dir, crowd=crowd, decode_images=decode_images)


def check_dataset(
    file: CocoFile, image_dir: str, *, crowd: str = "", decode_images: bool = False
) -> DatasetCheck:
    """Looks at every image and annotation; see `check_coco_dataset`."""
    annotated = file.annotations
    if crowd == OBJECTS:
        annotated = [annotation | {"iscrowd": 0} for annotation in annotated]
    check = DatasetCheck(len(file.images), len(annotated), len(file.categories))
    check.add(findings.OTHERWISE, *file.notices)
    for part, kind in _IDS.items():
        _check_ids(check, part, kind, [item["id"] for item in file.content.get(part, [])])
    files = ImageFiles(image_dir, "the json")
    for image in _progress(file.images, "images"):
        _check_file(check, image, files, decode_images)
    check.add(findings.NAMED_OTHERWISE, *files.otherwise)
    images = {_hashable(image["id"]): image for image in file.images}
    categories = {_hashable(category["id"]): category["name"] for category in file.categories}
    for annotation in _progress(annotated, "annotations"):
        image_id = _hashable(annotation.get("image_id"))
        category_id = _hashable(annotation.get("category_id"))
        if image_id not in images:
            check.add(findings.UNKNOWN_IMAGE, f"{_name(annotation)}: image {image_id}")
        if category_id not in categories:
            check.add(findings.UNKNOWN_CATEGORY, f"{_name(annotation)}: category {category_id}")
        _check_annotation(check, annotation, images.get(image_id))
    _check_empty(check, annotated, images, categories)
    if are_of_a_tool(annotated):
        crowds = check.found.pop(findings.CROWD)
        check.add(findings.CROWDS_OF_A_TOOL, *crowds)
    if not any(kind.effect == findings.STOPS for kind in check.found):
        try:
            file.check()
        except DataError as error:
            check.add(findings.REFUSED, str(error))
    return check


def _check_empty(
    check: DatasetCheck,
    annotated: list[dict[str, Any]],
    images: dict[Any, dict[str, Any]],
    categories: dict[Any, Any],
) -> None:
    if not annotated:
        return  # a test set without ground truth
    objects = [annotation for annotation in annotated if not annotation.get("iscrowd")]
    filled = {_hashable(annotation.get("image_id")) for annotation in objects}
    used = {_hashable(annotation.get("category_id")) for annotation in objects}
    empty = [str(image["file_name"]) for key, image in images.items() if key not in filled]
    unused = [str(name) for key, name in categories.items() if key not in used]
    check.add(findings.EMPTY_IMAGE, *empty)
    check.add(findings.EMPTY_CATEGORY, *unused)


def _progress(items: list[Any], unit: str) -> Iterable[Any]:
    return tqdm(items, unit=f" {unit}", delay=_SECONDS_WITHOUT_PROGRESS, leave=False)


def _hashable(identity: Any) -> Any:
    return identity if isinstance(identity, int | float | str | None) else repr(identity)


def _name(annotation: dict[str, Any]) -> str:
    return f"annotation {annotation['id']}"


def _check_ids(check: DatasetCheck, part: str, kind: Kind, ids: list[Any]) -> None:
    odd = [f"{identity!r} in {part}" for identity in ids if not isinstance(identity, int | str)]
    twice = [str(key) for key, count in Counter(map(_hashable, ids)).items() if count > 1]
    check.add(findings.ODD_ID, *odd)
    check.add(kind, *twice)


def _check_file(
    check: DatasetCheck, image: dict[str, Any], files: ImageFiles, decode: bool
) -> None:
    name = str(image["file_name"])
    try:
        path = files.find(name)
    except DataError:
        check.add(findings.OUTSIDE_FILE, name)
        return
    if path is None:
        check.add(findings.MISSING_FILE, name)
        return
    try:
        height, width = read_image(path, "RGB").shape[:2] if decode else read_image_size(path)
    except DataError:
        check.add(findings.UNREADABLE_FILE, name)
        return
    if (image["height"], image["width"]) != (height, width):
        said = f"{image['height']} x {image['width']}"
        check.add(findings.OTHER_SIZE, f"{name}: {said}, is {height} x {width}")


def _check_annotation(
    check: DatasetCheck, annotation: dict[str, Any], image: dict[str, Any] | None
) -> None:
    name = _name(annotation)
    if annotation.get("iscrowd"):
        check.add(findings.CROWD, name)
    box = _corners(annotation["bbox"])
    if box is None:
        check.add(findings.ODD_BOX, f"{name}: {annotation['bbox']}")
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
        left, top, right, bottom = mask_box
        rounded = [round(side, 1) for side in (left, top, right - left, bottom - top)]
        check.add(findings.BOX_ELSEWHERE, f"{name}: {annotation['bbox']}, mask {rounded}")
    check.boxes.append(box)
    check.image_sizes.append(size)
    check.areas.append(area)


def _corners(box: Any) -> list[float] | None:
    """Returns x0 y0 x1 y1 of COCO's left, top, width, height; None where they are no numbers."""
    if not is_box(box):
        return None
    left, top, width, height = box
    return [left, top, left + width, top + height]


def _check_box(
    check: DatasetCheck, name: str, given: Any, box: list[float], size: tuple[int, int]
) -> list[float] | None:
    """Returns the part of a box in the image, or None if there is none."""
    inside = _cut(box, size)
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        check.add(findings.EMPTY_BOX, f"{name}: {given}")
        return None
    if max(abs(a - b) for a, b in zip(box, inside)) > 1:
        check.add(findings.BOX_OUTSIDE, f"{name}: {given}, image {size[0]} x {size[1]}")
    return inside


def _check_mask(
    check: DatasetCheck, name: str, given: Any, size: tuple[int, int]
) -> tuple[int, list[float]] | None:
    """Returns a mask's pixels and the corners of the box around it, or None if it has none."""
    try:
        usable, reasons = usable_segmentation(given, size)
        if usable is None:
            check.add(_LEFT_OUT[next(iter(reasons))], name)
            return None
        area, box = measure_mask(usable, size)
    except Exception:  # values of a wrong type provoke whatever they provoke
        check.add(findings.BROKEN_MASK, name)
        return None
    if not area:
        check.add(findings.EMPTY_MASK, name)
        return None
    return area, _cut(box, size)


def _cut(box: list[float], size: tuple[int, int]) -> list[float]:
    height, width = size
    return np.clip(box, 0, [width, height, width, height]).tolist()


def _near(one: list[float], other: list[float]) -> bool:
    longest = max(side for box in (one, other) for side in (box[2] - box[0], box[3] - box[1]))
    tolerance = max(_NEAR_PIXELS, _NEAR_SHARE * longest)
    return all(abs(a - b) <= tolerance for a, b in zip(one, other))
