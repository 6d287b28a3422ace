"""Conversion of labelme's shapes to polygons or masks.

Shape letters: H W height and width of the image.
"""

import base64
import io
import math
from typing import Any

import numpy as np
from PIL import Image

from ...errors import DataError
from .coco_values import farthest

_CIRCLE_POINTS = 64
# The smallest number of points of each kind of shape.
_LEAST = {"polygon": 3, "rectangle": 2, "oriented_rectangle": 4, "circle": 2}


def read_shape(
    name: str, shape: dict[str, Any], size: tuple[int, int]
) -> list[float] | np.ndarray | str:
    """Convert a shape to a polygon or a mask.

    Args:
        name: of the shape, for messages.
        shape: an element of "shapes" in labelme's json.
        size: (H, W) of the image, in pixels.

    Returns:
        A polygon [x, y, x, y, ...] in pixels, or a mask, bool [H, W], or, as a str, the reason why
        the shape has neither.

    Raises:
        DataError: the shape's points are invalid, or its mask can't be decoded.
    """
    kind = str(shape.get("shape_type") or "polygon")  # old versions of labelme omit it
    points = _points(name, shape, size)
    if kind == "mask":
        return _mask(name, shape, points, size)
    least = _LEAST.get(kind)
    if least is None:
        known = ", ".join(word.replace("_", " ") + "s" for word in _LEAST)
        return f"is a {kind}: only {known} and masks cover pixels"
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


def _points(name: str, shape: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    try:
        points = np.array(shape["points"], dtype=np.float64).reshape(-1, 2)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise DataError(f"{name} has no 'points' [[x, y], ...]. Draw it again.") from error
    if not np.isfinite(points).all():
        raise DataError(f"{name} has points that are not finite numbers. Draw it again.")
    if points.size and np.abs(points).max() > farthest(*size):
        raise DataError(f"{name} has points far outside of its image. Draw it again.")
    return points


def _mask(
    name: str, shape: dict[str, Any], points: np.ndarray, size: tuple[int, int]
) -> np.ndarray | str:
    """Return the mask of a shape of labelme's kind "mask", bool [H, W], or the reason it has none.

    labelme stores an image of the mask's box, whose corners are two points, both inclusive.
    """
    if len(points) != 2:
        return f"is a mask of {len(points)} points, and 2 are needed"
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"], validate=True))) as picture:
            small = np.asarray(picture.convert("L")) > 0
    except Exception as error:  # Pillow's decoders can raise any error for a broken file
        raise DataError(
            f"{name} is a mask whose image can't be decoded: {error}. Draw it again."
        ) from error
    left, top = points.min(0).round().astype(int).tolist()
    mask = np.zeros(size, bool)
    rows = slice(max(top, 0), max(min(top + small.shape[0], size[0]), 0))
    columns = slice(max(left, 0), max(min(left + small.shape[1], size[1]), 0))
    part = small[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    if part.size:
        mask[rows, columns] = part
    return mask
