"""Conversion of the variants of COCO's format that tools write into COCO's own form."""

import re
from array import array
from collections.abc import Iterable
from reprlib import repr as shortened
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from pycocotools import mask as mask_util

from .coco_categories import classes_of
from .notices import Item, Notices
from .segmentation import as_rle, box_of, usable_at_any_size

# A whole number of at most 18 digits, which fits into 64 bits.
_WHOLE = re.compile(r"[+-]?\d{1,18}(\.0*)?", re.ASCII)
_SEQUENCES = list | array  # made once: making it takes longer than the check itself
# Addresses of an image, which its json may have in the place of a name, as LVIS's has.
_ADDRESSES = ("coco_url", "flickr_url")
FLAGS = {False: 0, True: 1, "0": 0, "1": 1, "false": 0, "true": 1}


def whole_number(value: Any) -> int | None:
    """Return the whole number that a value stands for: 7 for 7, 7.0 and "7"; None for others."""
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value.partition(".")[0])
    return None


def compact(item: Item) -> Item:
    """Convert an annotation's polygons to arrays while json is parsed, for a quarter of the memory.

    Args:
        item: any object of the json; it is changed in place. A "segmentation" that is not a list of
            lists of numbers is left as it is.
    """
    polygons = item.get("segmentation")
    if type(polygons) is list:
        try:
            item["segmentation"] = [array("d", polygon) for polygon in polygons]
        except (TypeError, OverflowError):
            return item
    return item


def normalise(content: dict[str, Any]) -> Notices:
    """Convert the values of a COCO json to COCO's form, in place.

    Values that can't be converted are left as they are.

    Args:
        content: COCO's parts, which are lists of objects. Afterwards images have a `file_name`,
            and `height` and `width`, None if they are unknown; categories are in the order of their
            ids; polygons are arrays of float64; `iscrowd` is 1 if `ignore` is.

    Returns:
        The conversions that were made.
    """
    notices = Notices()
    annotations = content.get("annotations", [])
    normalise_names(content["images"], notices)
    normalise_image_ids(content["images"], annotations, notices)
    for key in ("height", "width"):
        whole_numbers(content["images"], "images", key, notices)
    whole_numbers(content["categories"], "categories", "id", notices)
    whole_numbers(annotations, "annotations", "category_id", notices)
    _normalise_ids(annotations, notices)
    normalise_flags(annotations, notices)
    for annotation in annotations:
        normalise_mask(annotation, notices)
        if not _is_plain(annotation.get("bbox")):
            _normalise_box(annotation, notices)
    content["categories"] = classes_of(content["categories"], annotations, notices)
    return notices


def whole_numbers(items: list[Item], part: str, key: str, notices: Notices) -> None:
    """Convert values that stand for whole numbers, in place; missing sizes of images become None.

    Args:
        items: of the json.
        part: their name in it, for the notices.
        key: of the value.
        notices: receives the conversions.
    """
    for item in items:
        value = item.get(key)
        if type(value) is int:
            continue
        if value is None and part == "images":
            item[key] = None
        number = whole_number(value)
        if number is not None:
            item[key] = number
            notices.add(f"'{key}' of {part}", f"{value!r} as {number}")


def has_keys(item: Item, keys: Iterable[str]) -> bool:
    """Return whether an object has keys, or in place of `file_name` an address of the image."""
    lacking = [key for key in keys if key not in item]
    return not lacking or (lacking == ["file_name"] and _name_in_address(item) is not None)


def normalise_names(images: list[Item], notices: Notices) -> None:
    """Name the images that have an address alone, in place: `val2017/1.jpg`, as detectron2 does."""
    for image in images:
        if image.get("file_name") is None and (found := _name_in_address(image)) is not None:
            key, image["file_name"] = found
            notices.add(f"no 'file_name', taken from '{key}'", f"for instance {found[1]}")


def _name_in_address(image: Item) -> tuple[str, str] | None:
    """Return the key of an image's address, and the last two parts of its path."""
    for key in _ADDRESSES:
        try:
            parts = urlsplit(image.get(key) or "").path.split("/")
        except (ValueError, TypeError, AttributeError):  # it is no address
            continue
        if parts[-1]:
            return key, "/".join(part for part in parts[-2:] if part)
    return None


def normalise_image_ids(images: list[Item], annotations: list[Item], notices: Notices) -> None:
    """Convert image ids to one type: whole numbers if all of them are such, else text."""
    ids = [image["id"] for image in images]
    named = [annotation.get("image_id") for annotation in annotations]
    kinds = set(map(type, ids)) | set(map(type, named))
    if kinds in ({int}, {str}) or not all(isinstance(i, int | float | str) for i in ids):
        return
    numbers = [whole_number(identity) for identity in ids]
    numbered = None not in numbers and len(set(numbers)) == len(set(ids))
    for part, items, key in (("images", images, "id"), ("annotations", annotations, "image_id")):
        for item in items:
            value = item.get(key)
            taken = _image_id(value, numbered)
            if taken is not None and type(taken) is not type(value):
                item[key] = taken
                notices.add(f"'{key}' of {part}", f"{value!r} as {taken!r}")


def _image_id(value: Any, numbered: bool) -> int | str | None:
    number = whole_number(value)
    if numbered or number is None:
        return number if numbered else (value if isinstance(value, str) else None)
    return value if isinstance(value, str) else str(number)


def _normalise_ids(annotations: list[Item], notices: Notices) -> None:
    """Replace ids of annotations, to which nothing refers, by numbers if any is not a number."""
    ids = [annotation.get("id") for annotation in annotations]
    if set(map(type, ids)) <= {int} or not all(
        isinstance(i, int | float | str | None) for i in ids
    ):
        return
    numbers = [whole_number(identity) for identity in ids]
    if None in numbers:
        numbers = list(range(1, len(ids) + 1))
    for annotation, identity, number in zip(annotations, ids, numbers):
        if type(identity) is not int or identity != number:
            annotation["id"] = number
            notices.add("'id' of annotations", f"{shortened(identity)} as {number}")


def normalise_flags(annotations: list[Item], notices: Notices) -> None:
    """Convert `iscrowd` to 0 or 1 where it means one of them, in place; `ignore` 1 is a crowd."""
    for annotation in annotations:
        crowd = annotation.get("iscrowd")
        if crowd is None:
            annotation["iscrowd"] = 0
        elif isinstance(crowd, bool | float | str) and crowd in FLAGS:
            annotation["iscrowd"] = FLAGS[crowd]
            notices.add("'iscrowd'", f"{crowd!r} as {FLAGS[crowd]}")
        if annotation.get("ignore") in (1, "1", "true"):
            annotation["iscrowd"] = 1
            notices.add("'ignore' 1, as 'iscrowd' 1: not learnt, and not counted in evaluation")


def normalise_mask(annotation: Item, notices: Notices) -> None:
    """Convert an annotation's `segmentation` to polygons or RLE, in place, if it can be."""
    given = annotation.get("segmentation")
    if type(given) is dict:
        as_rle(given)
    elif type(given) is list and given:
        first = given[0]
        if type(first) is array and len(first) != 2:
            if len(given) > 1 and len(first) == len(given[-1]) and max(first, default=2) <= 1:
                _mask_of_rows(annotation, given, notices)
            return  # the usual case, which needs no conversion
        if type(first) is dict and len(given) == 1 and "counts" in first:
            annotation["segmentation"] = as_rle(first)
            notices.add("'segmentation', an RLE in a list")
            return
        polygons, form = _polygons(given)
        annotation["segmentation"] = polygons
        if form:
            notices.add(f"'segmentation', {form}")


def _mask_of_rows(annotation: Item, rows: list[array], notices: Notices) -> None:
    """Convert a mask [height, width] that a tool wrote number by number, if the rows are one."""
    if {*map(len, rows)} == {len(rows[0])} and {value for row in rows for value in row} <= {0, 1}:
        rle = mask_util.encode(np.asfortranarray(rows, np.uint8))
        annotation["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
        notices.add("'segmentation', a mask as rows of 0 and 1")


def _polygons(given: list[Any]) -> tuple[list[Any], str]:
    """Return polygons as arrays, and a description of their form; "" if it is COCO's."""
    whole = _polygon(given)
    if whole is not None and len(whole[0]) >= 6:
        return [whole[0]], whole[1] or "a polygon that is not in a list of its own"
    polygons, forms = [], []
    for polygon in given:
        read = (polygon, "") if isinstance(polygon, array) else _polygon(polygon)
        parts = _nested(polygon) if read is None else []
        if parts:
            polygons += parts
            forms.append("polygons in one list too many")
            continue
        polygons.append(polygon if read is None else read[0])
        forms.append("" if read is None else read[1])
    return polygons, next(filter(None, forms), "")


def _nested(given: Any) -> list[array]:
    """Return the polygons of a list in the place of a polygon; none if it can be anything else.

    Several lists of points are no parts: in GeoJSON the second is a hole in the first.
    """
    read = [_polygon(part) for part in given] if isinstance(given, list) else []
    parts = [one[0] for one in read if one is not None and len(one[0]) >= 6]
    has_points = any(one is not None and one[1] for one in read)
    return parts if len(parts) == len(read) and (len(read) == 1 or not has_points) else []


def _polygon(given: Any) -> tuple[array, str] | None:
    """Read numbers, or points written as pairs or as objects of x and y.

    Returns:
        The polygon, and a description of its form, as of `_polygons`. None if it has another form.
    """
    if not isinstance(given, list):
        return None
    try:
        return array("d", given), ""  # the usual case: numbers, and neither text nor points
    except (TypeError, ValueError, OverflowError):
        form = ""
    if given and all(isinstance(point, dict) and {"x", "y"} <= point.keys() for point in given):
        given, form = [[point["x"], point["y"]] for point in given], "points as objects of x and y"
    if given and all(isinstance(point, _SEQUENCES) and len(point) == 2 for point in given):
        given, form = [value for point in given for value in point], form or "points as pairs"
    if any(isinstance(value, str) for value in given):
        form = "numbers as text"
    try:
        return array("d", [float(v) if isinstance(v, str) else v for v in given]), form
    except (TypeError, ValueError, OverflowError):
        return None


def _is_plain(box: Any) -> bool:
    return (
        type(box) is list
        and len(box) == 4
        and type(box[0]) is type(box[2]) is type(box[3]) is float
        and box[2] > 0
        and box[3] > 0
    )


def _normalise_box(annotation: Item, notices: Notices) -> None:
    box = annotation.get("bbox")
    if isinstance(box, list) and len(box) == 4:
        try:
            # Integers, too: detectron2 would round a resized box of integers, and lose thin ones.
            annotation["bbox"] = [float(side) for side in box]
        except (TypeError, ValueError, OverflowError):
            return
        if any(isinstance(side, str) for side in box):
            notices.add("'bbox', numbers as text")
        if min(annotation["bbox"][2:]) <= 0:
            _box_from_mask(annotation, notices)
    elif box is None or box == []:
        mask = usable_at_any_size(annotation.get("segmentation"))
        annotation["bbox"] = [0.0, 0.0, 0.0, 0.0] if mask is None else box_of(mask)
        if mask is not None:
            notices.add("no 'bbox', computed from the mask")


def _box_from_mask(annotation: Item, notices: Notices) -> None:
    """Replace a box without area, such as the zeros of tools that write masks alone."""
    mask = usable_at_any_size(annotation.get("segmentation"))
    box = [0.0, 0.0, 0.0, 0.0] if mask is None else box_of(mask)
    if min(box[2:]) > 0:
        annotation["bbox"] = box
        notices.add("a 'bbox' without area, computed from the mask")
