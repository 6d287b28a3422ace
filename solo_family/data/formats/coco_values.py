"""Whether the values of a COCO json are what they must be, before anything uses them."""

import math
import os
from collections.abc import Sequence
from pathlib import PurePath
from reprlib import repr as shortened
from typing import Any

from ...errors import DataError
from .rle import fills_image

# A trusted json may name images anywhere.
OUTSIDE = "SOLO_FAMILY_ALLOW_OUTSIDE"
# pycocotools counts the pixels of a mask with 32 bits.
_MOST_PIXELS = 2**31
_FARTHEST_BOX = 1e9
# Polygons may leave their image; pycocotools walks along their edges pixel by pixel.
_FARTHEST_IN_SIZES = 20


def check_categories(source: str, categories: list[dict[str, Any]]) -> None:
    """Checks the ids and names of categories; see `check_values`."""
    for index, category in enumerate(categories):
        place = f"{source}: category {index} (counted from 0)"
        _check_id(place, "id", category["id"], int)
        if not isinstance(category["name"], str):
            raise DataError(f"{place} has name {shortened(category['name'])}; a text is needed.")


def check_values(source: str, content: dict[str, Any]) -> None:
    """Checks the types and ranges of what is read from images and annotations.

    Args:
        source: the annotation file, for messages.
        content: of COCO's parts, with their necessary keys.

    Raises:
        DataError: names the entry, the key, its value, and what is allowed.
    """
    names_of_images = any(isinstance(image["id"], str) for image in content["images"])
    for index, image in enumerate(content["images"]):
        place = f"{source}: image {index} (counted from 0)"
        _check_id(place, "id", image["id"], str if names_of_images else int)
        if not isinstance(image["file_name"], str) or not image["file_name"].strip("\0"):
            raise DataError(
                f"{place} has file_name {shortened(image['file_name'])}; a path is needed."
            )
        sides = (image["height"], image["width"])
        if not all(_is_int(side) and side > 0 for side in sides) or math.prod(sides) > _MOST_PIXELS:
            raise DataError(
                f"{place} has height {shortened(sides[0])} and width {shortened(sides[1])}; whole "
                f"numbers from 1 are needed, of at most {_MOST_PIXELS} pixels together."
            )
    for index, annotation in enumerate(content.get("annotations", [])):
        _check_annotation(f"{source}: annotation {index} (counted from 0)", annotation)


def _check_annotation(place: str, annotation: dict[str, Any]) -> None:
    _check_id(place, "id", annotation["id"], int)
    if annotation.get("iscrowd", 0) not in (0, 1):
        raise DataError(f"{place} has iscrowd {shortened(annotation['iscrowd'])}; it is 0 or 1.")
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        good = _is_rle(segmentation.get("size"), segmentation.get("counts"))
    elif isinstance(segmentation, list):
        good = all(isinstance(polygon, list) for polygon in segmentation)
    else:
        good = True  # there is none
    if not good:
        raise DataError(
            f"{place} has segmentation {shortened(segmentation)}; it must be a list of polygons "
            "[x1, y1, x2, y2, ...], or RLE with 'size' [height, width] and 'counts'."
        )


def _is_rle(size: Any, counts: Any) -> bool:
    if not isinstance(size, list) or len(size) != 2:
        return False
    if not all(_is_int(side) and 0 <= side < _MOST_PIXELS for side in size):
        return False
    if isinstance(counts, list):
        return all(_is_int(run) and 0 <= run < 2**32 for run in counts)
    return isinstance(counts, str)


def is_box(values: Any) -> bool:
    """Tells whether it is a list of four finite numbers."""
    return isinstance(values, list) and len(values) == 4 and _all_within(values, _FARTHEST_BOX)


def is_area(value: Any) -> bool:
    """Tells whether it is a finite number of pixels."""
    return isinstance(value, int | float) and 0 <= value <= _FARTHEST_BOX**2


def is_drawable(polygon: Sequence[float], height: float, width: float) -> bool:
    """Tells whether a polygon consists of numbers that are not absurdly far from its image."""
    return _all_within(polygon, _FARTHEST_IN_SIZES * max(height, width, 100))


def adds_up(rle: dict[str, Any]) -> bool:
    """Tells whether the runs of an RLE, compressed or not, fill its image."""
    if isinstance(rle["counts"], list):
        height, width = rle["size"]
        return sum(rle["counts"]) == height * width
    return fills_image(rle)


def path_inside(folder: str, name: str, source: str) -> str:
    """Joins a path that a file gives to the folder that it is relative to.

    Raises:
        DataError: it leads out of the folder, and `SOLO_FAMILY_ALLOW_OUTSIDE` is not 1.
    """
    leads_out = os.path.isabs(name) or os.pardir in PurePath(name).parts
    if leads_out and os.environ.get(OUTSIDE) != "1":
        raise DataError(
            f"{source} names {name}, which is outside {folder}. Name the folder that all images "
            f"are in, or, for a file that you trust, set the environment variable {OUTSIDE}=1."
        )
    return os.path.join(folder, name)


def _check_id(place: str, key: str, value: Any, kind: type) -> None:
    if not (_is_int(value) and abs(value) < 2**63 if kind is int else isinstance(value, kind)):
        wanted = "a whole number" if kind is int else "a text, as other images have,"
        raise DataError(f"{place} has {key} {shortened(value)}; {wanted} is needed.")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _all_within(values: Sequence[Any], limit: float) -> bool:
    try:
        # The sum tells of NaN, which compares with nothing.
        return bool(-limit <= min(values) and max(values) <= limit and math.isfinite(sum(values)))
    except (TypeError, ValueError, OverflowError):
        return False
