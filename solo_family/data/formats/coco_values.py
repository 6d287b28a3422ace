"""Checks of the values of a COCO json, before anything uses them."""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from reprlib import repr as shortened
from typing import Any

import numpy as np

from ...errors import DataError, first_of
from ...ops.rle import fills_image

_NAMED = 3  # examples that a message names, at most
# pycocotools counts the pixels of a mask with 32 bits.
MOST_PIXELS = 2**31
_FARTHEST_BOX = 1e9
# Polygons may extend beyond their image, but not by more than this many times its longest side
# (taken as at least `_LEAST_SIZE` pixels), nor farther than `_FARTHEST` pixels, because pycocotools
# walks along edges pixel by pixel and keeps every step.
_FARTHEST_IN_SIZES, _LEAST_SIZE, _FARTHEST = 20, 100, 1e6
# Coordinates up to this value can be drawn whatever the size of the image.
NEAR = _FARTHEST_IN_SIZES * _LEAST_SIZE


def check_categories(source: str, categories: list[dict[str, Any]]) -> None:
    """Check the ids and names of categories.

    Args:
        source: the annotation file, for messages.
        categories: of the json.

    Raises:
        DataError: a value is invalid; the message names the entry, the key, the value and what is
            allowed.
    """
    for index, category in enumerate(categories):
        place = f"{source}: category {index} (counted from 0)"
        check_id(place, "id", category["id"], int)
        if not isinstance(category["name"], str):
            raise DataError(
                f"{place} has name {shortened(category['name'])}; it must be text. Correct it."
            )
        if not category["name"] or _has_surrogates(category["name"]):
            raise DataError(
                f"{place} has name {shortened(category['name'])}; it must be text that can be "
                "written in UTF-8, and not empty. Name the class."
            )


def _has_surrogates(text: str) -> bool:
    """Return whether a text has halves of characters, which a json can have, and no file can."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def check_images(source: str, images: list[dict[str, Any]], *, sized: bool = True) -> None:
    """Check ids, file names and sizes of images.

    Args:
        source: the annotation file, for messages.
        images: of the json, with `id`, `file_name`, `height` and `width`.
        sized: whether height and width must be there; otherwise both may be None.

    Raises:
        DataError: a value is invalid; the message names the entry, the key, the value and what is
            allowed.
    """
    named = any(isinstance(image["id"], str) for image in images)
    for index, image in enumerate(images):
        place = f"{source}: image {index} (counted from 0)"
        check_id(place, "id", image["id"], str if named else int)
        check_path(place, image)
        sides = (image["height"], image["width"])
        if not sized and sides == (None, None):
            continue
        if sized and None in sides:
            raise DataError(
                f"{place}, {image['file_name']}, has no height and width, and they can't be read "
                "from the image. Write them into the json, or name the dataset with the folder of "
                "its images, coco_json:ANNOTATIONS.json:IMAGE_DIR, in a config."
            )
        if not is_image_size(sides):
            raise DataError(
                f"{place} has height {shortened(sides[0])} and width {shortened(sides[1])}; they "
                f"must be whole numbers from 1, and their product at most {MOST_PIXELS}. Correct "
                "them, or remove both: then they are read from the image."
            )


def check_path(place: str, item: dict[str, Any]) -> None:
    """Check that `file_name` is a path.

    Args:
        place: the file and the entry, for the message.
        item: an image, or the annotation of one.

    Raises:
        DataError: it is none.
    """
    name = item["file_name"]
    if not isinstance(name, str) or not name.strip("\0"):
        raise DataError(f"{place} has file_name {shortened(name)}; it must be a path. Correct it.")


def check_annotations(
    source: str,
    annotations: list[dict[str, Any]],
    image_ids: Set[Any],
    category_ids: Set[Any],
) -> None:
    """Check the values of annotations, and that their images and categories exist.

    Args:
        source: the annotation file, for messages.
        annotations: of the json, normalised.
        image_ids: ids of the json's images.
        category_ids: ids of the json's categories.

    Raises:
        DataError: a value is invalid; the message names the first such entry, the key, the value
            and what is allowed.
    """
    if _are_plain(annotations, image_ids, category_ids):
        return
    for index, annotation in enumerate(annotations):
        _check_annotation(f"{source}: annotation {index} (counted from 0)", annotation)
    for annotation in annotations:
        place = f"{source}: annotation {annotation['id']}"
        for key, known in (("category_id", category_ids), ("image_id", image_ids)):
            value = annotation.get(key)
            if not isinstance(value, int | str) or value not in known:
                raise DataError(
                    f"{place} has {key} {shortened(value)}, which is not among the file's "
                    f"{'categories' if key == 'category_id' else 'images'}. "
                    "Add it there, or remove the annotation."
                )
        if not is_box(annotation["bbox"]):
            raise DataError(
                f"{place} has bbox {shortened(annotation['bbox'])}; it must be [left, top, width, "
                "height] in pixels. Correct it, or remove the annotation."
            )


def check_unique(source: str, part: str, ids: Iterable[Any]) -> set[Any]:
    """Return the ids of a part.

    Args:
        source: the annotation file, for the message.
        part: its name, for the message.
        ids: of its entries.

    Raises:
        DataError: some are duplicate.
    """
    counts = Counter(ids)
    twice = [str(identity) for identity, count in counts.items() if count > 1]
    if twice:
        raise DataError(
            f"{source}: {len(twice)} ids in '{part}' are duplicate: {first_of(twice, _NAMED)}. "
            f"Ids must be unique: renumber the {part}."
        )
    return set(counts)


def _are_plain(
    annotations: list[dict[str, Any]], image_ids: Set[Any], category_ids: Set[Any]
) -> bool:
    """Return, in one fast pass, whether all values have the usual types and ranges."""
    try:
        columns = (
            {type(a["id"]) for a in annotations} <= {int}
            and {a["iscrowd"] for a in annotations} <= {0, 1}
            and {a["image_id"] for a in annotations} <= image_ids
            and {a["category_id"] for a in annotations} <= category_ids
            and {type(a["category_id"]) for a in annotations} <= {int}
            and max((abs(a["id"]) for a in annotations), default=0) < 2**63
        )
        if not columns or not all({*map(type, a["bbox"])} <= {int, float} for a in annotations):
            return False
        boxes = np.array([a["bbox"] for a in annotations], dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        return False
    if len(boxes) and not (boxes.shape[1:] == (4,) and np.abs(boxes).max() <= _FARTHEST_BOX):
        return False
    return all(_is_segmentation(annotation.get("segmentation")) for annotation in annotations)


def _check_annotation(place: str, annotation: dict[str, Any]) -> None:
    check_id(place, "id", annotation.get("id"), int)
    if annotation.get("iscrowd", 0) not in (0, 1):
        raise DataError(
            f"{place} has iscrowd {shortened(annotation['iscrowd'])}; it must be 0 or 1. Correct "
            "it."
        )
    segmentation = annotation.get("segmentation")
    if not _is_segmentation(segmentation):
        raise DataError(
            f"{place} has segmentation {shortened(segmentation)}; it must be a list of polygons "
            "[x1, y1, x2, y2, ...], or RLE with 'size' [height, width] and 'counts'. Export it "
            "again, or remove the annotation."
        )


def _is_segmentation(given: Any) -> bool:
    """Return whether a value is a list of polygons, RLE, or missing; numbers are checked later."""
    if isinstance(given, list):
        return all(isinstance(polygon, array | list) for polygon in given)
    if isinstance(given, dict):
        return is_rle(given.get("size"), given.get("counts"))
    return not given  # an empty text is a missing mask


def is_rle(size: Any, counts: Any) -> bool:
    """Return whether the size and counts of an RLE have the right types and ranges.

    Whether they match is for `adds_up` to check.
    """
    if not isinstance(size, list) or len(size) != 2:
        return False
    if not all(_is_int(side) and 0 <= side < MOST_PIXELS for side in size):
        return False
    if isinstance(counts, list):
        return all(_is_int(run) and 0 <= run < 2**32 for run in counts)
    return isinstance(counts, str)


def is_image_size(size: Sequence[Any]) -> bool:
    """Return whether a (height, width) is one of whole numbers from 1 that masks can have."""
    return all(_is_int(side) and side > 0 for side in size) and math.prod(size) <= MOST_PIXELS


def is_box(values: Any) -> bool:
    """Return whether a value is a list of four finite numbers."""
    return isinstance(values, list) and len(values) == 4 and _all_within(values, _FARTHEST_BOX)


def is_area(value: Any) -> bool:
    """Return whether a value is a finite number of pixels, not negative."""
    return isinstance(value, int | float) and 0 <= value <= _FARTHEST_BOX**2


def is_drawable(polygon: Sequence[float], height: float, width: float) -> bool:
    """Return whether a polygon consists of finite numbers that are not too far from its image.

    Args:
        polygon: [x, y, x, y, ...], in pixels.
        height: of the image, in pixels; infinite if it is unknown.
        width: likewise.
    """
    return _all_within(polygon, farthest(height, width))


def farthest(height: float, width: float) -> float:
    """Return how far from its image's corner a point may be, in pixels; see `is_drawable`."""
    return min(_FARTHEST_IN_SIZES * max(height, width, _LEAST_SIZE), _FARTHEST)


def adds_up(rle: dict[str, Any]) -> bool:
    """Return whether the runs of an RLE, compressed or not, add up to its image's pixels."""
    if isinstance(rle["counts"], list):
        height, width = rle["size"]
        return sum(rle["counts"]) == height * width
    return fills_image(rle)


def check_id(place: str, key: str, value: Any, kind: type) -> None:
    """Check an id.

    Args:
        place: the file and the entry, for the message.
        key: of the id.
        value: the id.
        kind: int, of up to 64 bits, or str.

    Raises:
        DataError: the id is of another kind.
    """
    if not (_is_int(value) and abs(value) < 2**63 if kind is int else isinstance(value, kind)):
        wanted = "a whole number" if kind is int else "text, as it is for other images"
        raise DataError(f"{place} has {key} {shortened(value)}; it must be {wanted}. Correct it.")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _all_within(values: Sequence[Any], limit: float) -> bool:
    try:
        # The sum reveals NaN, for which all comparisons are False.
        return bool(-limit <= min(values) and max(values) <= limit and math.isfinite(sum(values)))
    except (TypeError, ValueError, OverflowError):
        return False
