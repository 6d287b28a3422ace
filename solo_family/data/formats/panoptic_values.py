"""The values of COCO's panoptic json: those that mean one thing are converted, others refused."""

from reprlib import repr as shortened
from typing import Any

from ...errors import DataError
from .coco_categories import strip_names
from .coco_normalise import (
    FLAGS,
    normalise_flags,
    normalise_image_ids,
    normalise_names,
    whole_number,
    whole_numbers,
)
from .coco_values import check_categories, check_id, check_images, check_path, check_unique
from .notices import Item, Notices

# R + 256 G + 256^2 B is below this number; 0 is the id of pixels without a segment.
_IDS = 2**24


def normalise_panoptic(source: str, content: dict[str, Any]) -> Notices:
    """Convert the values of a panoptic json to COCO's form, in place, and check them.

    Args:
        source: path of the json, for messages.
        content: COCO's parts, which are lists of objects. Afterwards images have `height` and
            `width`, both None if they are unknown, and `isthing` and `iscrowd` are 0 or 1.

    Returns:
        The conversions that were made.

    Raises:
        DataError: a value can't be used; the message names the entry, the key, the value and what
            is allowed.
    """
    notices = Notices()
    images, annotations = content["images"], content["annotations"]
    normalise_names(images, notices)
    normalise_image_ids(images, annotations, notices)
    for key in ("height", "width"):
        whole_numbers(images, "images", key, notices)
    check_images(source, images, sized=False)
    check_unique(source, "images", (image["id"] for image in images))
    _check_classes(source, content["categories"], notices)
    for annotation in annotations:
        _check_segments(source, annotation, notices)
    return notices


def _check_classes(source: str, categories: list[Item], notices: Notices) -> None:
    whole_numbers(categories, "categories", "id", notices)
    for index, category in enumerate(categories):
        thing = category["isthing"]
        if thing not in (0, 1) and not (isinstance(thing, str) and thing in FLAGS):
            raise DataError(
                f"{source}: category {index} (counted from 0) has isthing {shortened(thing)}; it "
                "must be 0 or 1. Correct it."
            )
        if type(thing) is not int:
            category["isthing"] = FLAGS[thing]
            notices.add("'isthing'", f"{thing!r} as {FLAGS[thing]}")
        name = category["name"]
        if isinstance(name, int | float) and not isinstance(name, bool):
            category["name"] = str(name)
            notices.add("'name' of categories", f"{name} as {str(name)!r}")
    strip_names(categories, notices)
    check_categories(source, categories)
    check_unique(source, "categories", (category["id"] for category in categories))
    first: dict[str, Any] = {}
    for category in categories:
        other = first.setdefault(category["name"], category["id"])
        if other != category["id"]:
            raise DataError(
                f"{source}: the categories {other} and {category['id']} have the same name, "
                f"{category['name']!r}, by which classes are told apart. Give each its own name; "
                "or, if they are one class, give their segments one category_id."
            )


def _check_segments(source: str, annotation: Item, notices: Notices) -> None:
    place = f"{source}: the annotation of image {shortened(annotation['image_id'])}"
    if not isinstance(annotation["image_id"], int | str):
        check_id(f"{source}: an annotation", "image_id", annotation["image_id"], int)
    check_path(place, annotation)
    segments = annotation["segments_info"]
    is_list = isinstance(segments, list)
    odd = [one for one in segments if not _is_segment(one)] if is_list else [segments]
    if odd:
        raise DataError(
            f"{place} has segments_info with {shortened(odd[0])}; it must be a list of objects "
            "with 'id' and 'category_id'. Correct it, or export the dataset again."
        )
    whole_numbers(segments, "segments", "id", notices)
    whole_numbers(segments, "segments", "category_id", notices)
    normalise_flags(segments, notices)
    seen = set()
    for segment in segments:
        number = segment["id"]
        if type(number) is not int or not 0 < number < _IDS:
            raise DataError(
                f"{place} has a segment with id {shortened(number)}; it must be a whole number "
                f"from 1 to {_IDS - 1}: R + 256 G + 256^2 B of its pixels in the PNG. Correct it."
            )
        if number in seen:
            raise DataError(
                f"{place} has the segment {number} twice. Remove one of the two entries; or, if "
                "they are two segments, give each its own id, in the json and in the PNG."
            )
        seen.add(number)
        if whole_number(segment["category_id"]) is None:
            raise DataError(
                f"{place} has a segment with category_id {shortened(segment['category_id'])}; it "
                "must be the id of a category. Correct it."
            )
        if segment["iscrowd"] not in (0, 1):
            raise DataError(
                f"{place} has iscrowd {shortened(segment['iscrowd'])}; it must be 0 or 1. Correct "
                "it."
            )


def _is_segment(value: Any) -> bool:
    return isinstance(value, dict) and "id" in value and "category_id" in value
