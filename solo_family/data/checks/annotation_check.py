"""The check of a single annotation: its box, its mask, and whether they agree.

Shape letters: H W height and width of the image.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pycocotools import mask as mask_util

from ..formats import segmentation
from ..formats.coco_values import is_area, is_box, is_image_size
from ..formats.segmentation import corners_of, to_rle, usable_segmentation
from . import findings
from .findings import Findings

# A box agrees with its mask's box if no side is off by more than this many pixels, or by this
# fraction of the longest side of the two.
_NEAR_PIXELS, _NEAR_SHARE = 2.0, 0.1
# A mask of at least this fraction of its image covers the whole image; two areas whose ratio is
# above this factor contradict each other.
_WHOLE, _APART = 0.95, 10
_LEFT_OUT = {
    segmentation.WITHOUT: findings.NO_MASK,
    segmentation.SHORT: findings.NO_MASK,
    segmentation.FAR: findings.BROKEN_MASK,
    segmentation.UNFILLED: findings.BROKEN_MASK,
    segmentation.MISFIT: findings.MASK_OF_OTHER_SIZE,
}


@dataclass
class MeasuredObject:
    """An object that training learns.

    Attributes:
        annotation: the annotation that describes it.
        name: what messages call the annotation.
        box: x0 y0 x1 y1 of the annotation's box, in pixels of the image, clipped at its border.
        mask_box: x0 y0 x1 y1 of the box around the mask, likewise.
        size: (H, W) of the image.
        usable: the polygons or the RLE that the mask is made of.
        rle: the mask as compressed RLE.
        area: of the mask, in pixels.
    """

    annotation: dict[str, Any] = field(repr=False)
    name: str
    box: list[float]
    mask_box: list[float]
    size: tuple[int, int]
    usable: Any = field(repr=False)
    rle: dict[str, Any] = field(repr=False)
    area: int


def check_annotation(
    check: Findings, annotation: dict[str, Any], image: dict[str, Any] | None
) -> MeasuredObject | None:
    """Record what is wrong with an annotation.

    Args:
        check: receives the findings.
        annotation: of COCO's format, normalised.
        image: the json's entry of its image; None if there is none.

    Returns:
        The object, or None if training does not learn the annotation.
    """
    name = name_of(annotation)
    if annotation.get("iscrowd"):
        check.add(findings.CROWD, name)
    box = _corners(annotation["bbox"])
    if box is None:
        check.add(findings.ODD_BOX, f"{name}: {annotation['bbox']}")
    if image is None:
        return None
    name = f"{name} in {image['file_name']}"
    size = (image["height"], image["width"])
    if not is_image_size(size):
        return None  # The check of the image's file has recorded it.
    if are_shares(annotation):
        check.add(findings.SHARES, name)
        return None
    if box is not None:
        box = _check_box(check, name, annotation["bbox"], box, size)
    measured = _check_mask(check, name, annotation.get("segmentation"), size)
    if box is None or measured is None or annotation.get("iscrowd"):
        return None
    usable, rle, area, mask_box = measured
    found = MeasuredObject(annotation, name, box, mask_box, size, usable, rle, area)
    _check_agreement(check, found)
    return found


def name_of(annotation: dict[str, Any]) -> str:
    """Return the name of an annotation for messages."""
    return f"annotation {annotation.get('id')}"


def are_shares(annotation: dict[str, Any]) -> bool:
    """Return whether all coordinates are from 0 to 1: probably fractions of the image's size."""
    polygons = annotation.get("segmentation")
    if not isinstance(polygons, list) or not polygons:
        return False
    try:
        values = np.concatenate([np.asarray(p, dtype=np.float64) for p in polygons])
    except (TypeError, ValueError):
        return False
    return bool(values.size >= 6 and values.min() >= 0 and values.max() <= 1)


def _check_agreement(check: Findings, found: MeasuredObject) -> None:
    given = found.annotation["bbox"]
    if not _near(found.box, found.mask_box):
        left, top, right, bottom = found.mask_box
        rounded = [round(side, 1) for side in (left, top, right - left, bottom - top)]
        kind = findings.BOX_OF_CORNERS if _near(given, found.mask_box) else findings.BOX_ELSEWHERE
        check.add(kind, f"{found.name}: {_shown(given)}, mask {rounded}")
    area = found.annotation.get("area")
    if (
        area is not None
        and is_area(area)
        and not found.area / _APART <= area <= found.area * _APART
    ):
        check.add(findings.OTHER_AREA, f"{found.name}: {area:g}, mask {found.area}")
    if found.area >= _WHOLE * found.size[0] * found.size[1]:
        check.add(findings.WHOLE_IMAGE, found.name)


def _corners(box: Any) -> list[float] | None:
    """Return x0 y0 x1 y1 of COCO's [left, top, width, height]; None if it is not four numbers."""
    if not is_box(box):
        return None
    left, top, width, height = box
    return [left, top, left + width, top + height]


def _check_box(
    check: Findings, name: str, given: Any, box: list[float], size: tuple[int, int]
) -> list[float] | None:
    """Return the part of a box inside the image, or None if there is none."""
    inside = _cut(box, size)
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        check.add(findings.EMPTY_BOX, f"{name}: {_shown(given)}")
        return None
    if max(abs(a - b) for a, b in zip(box, inside)) > 1:
        check.add(findings.BOX_OUTSIDE, f"{name}: {_shown(given)}, image {size[0]} x {size[1]}")
    return inside


def _check_mask(
    check: Findings, name: str, given: Any, size: tuple[int, int]
) -> tuple[Any, dict[str, Any], int, list[float]] | None:
    """Return a mask's usable polygons or RLE, its compressed RLE, its area, and its box's corners.

    The result is None if there is no usable mask; then the reason is recorded.
    """
    try:
        usable, reasons = usable_segmentation(given, size)
        if usable is None:
            check.add(_LEFT_OUT[next(iter(reasons))], name)
            return None
        rle = to_rle(usable, size)
        area, box = int(mask_util.area(rle)), corners_of(usable)
    except Exception:  # values of a wrong type can raise any error
        check.add(findings.BROKEN_MASK, name)
        return None
    if not area:
        check.add(findings.EMPTY_MASK, name)
        return None
    return usable, rle, area, _cut(box, size)


def _shown(box: list[float]) -> str:
    return f"[{', '.join(f'{side:g}' for side in box)}]"


def _cut(box: list[float], size: tuple[int, int]) -> list[float]:
    height, width = size
    return np.clip(box, 0, [width, height, width, height]).tolist()


def _near(one: list[float], other: list[float]) -> bool:
    longest = max(side for box in (one, other) for side in (box[2] - box[0], box[3] - box[1]))
    tolerance = max(_NEAR_PIXELS, _NEAR_SHARE * longest)
    return all(abs(a - b) <= tolerance for a, b in zip(one, other))
