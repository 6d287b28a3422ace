"""The picture that the page shows: painted, in a size for the screen, with the rows' numbers.

H W of the picture, h w of the one that is shown.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.data import Metadata

from ...predictor.painting import paint
from ...predictor.predictions import Predictions
from .rows import Row
from .small import resized

# Pixels of the longer side on the page.
_LONGEST, _SHORTEST = 1600, 900
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Of OpenCV's letters, for pictures of the longest side; larger ones have larger letters.
_SIZE = 0.7
# Pixels between a number and the border of its object.
_MARGIN = 2


def draw(
    image: np.ndarray,
    predictions: Predictions,
    rows: Sequence[Row],
    metadata: Metadata,
    size: tuple[int, int],
) -> np.ndarray:
    """Return a picture with its masks, and the numbers of those that have room for them.

    Args:
        image: the picture in any size, uint8 [h, w, 3], BGR; it stays as it is.
        predictions: of `made_small`, filtered.
        rows: of the predictions.
        metadata: the colours of classes.
        size: (H, W).

    Returns:
        uint8 [h, w, 3], BGR.
    """
    painted = image.copy()
    paint(painted, resized(predictions, size, image.shape[:2]), metadata)
    for row in rows:
        _write_number(painted, row, image.shape[1] / size[1], image.shape[0] / size[0])
    return painted


def for_screen(image: np.ndarray) -> np.ndarray:
    """Return a picture, uint8 [H, W, 3], in a size for the screen."""
    scale = screen_scale(image.shape[:2])
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, _scaled(image.shape[:2], scale), interpolation=kind)


def screen_scale(size: tuple[int, int]) -> float:
    """Return the factor by which a picture, (H, W), is resized: a whole one for small pictures."""
    longest = max(size)
    return _LONGEST / longest if longest > _LONGEST else float(max(1, _SHORTEST // longest))


def thumbnail(image: np.ndarray, side: int) -> np.ndarray:
    """Return a picture, uint8 [H, W, 3], whose longer side has at most so many pixels."""
    scale = min(1.0, side / max(image.shape[:2]))
    return cv2.resize(image, _scaled(image.shape[:2], scale), interpolation=cv2.INTER_AREA)


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return the width and height of a resized picture."""
    return max(1, round(size[1] * scale)), max(1, round(size[0] * scale))


def _write_number(picture: np.ndarray, row: Row, across: float, down: float) -> None:
    """Write a row's number, with the scales of the picture's width and height."""
    size = _SIZE * max(1.0, max(picture.shape[:2]) / _LONGEST)
    thickness = max(1, round(size * 2))
    (width, height), _ = cv2.getTextSize(str(row.number), _FONT, size, thickness)
    left, top, right, bottom = row.box
    room = (right - left) * across - 2 * _MARGIN, (bottom - top) * down - 2 * _MARGIN
    if room[0] < width or room[1] < height:
        return
    x = _inside(row.middle[0] * across - width / 2, picture.shape[1] - width)
    y = _inside(row.middle[1] * down - height / 2, picture.shape[0] - height) + height
    # A dark outline, so that it can be read on every colour.
    for colour, line in (((0, 0, 0), thickness * 3), ((255, 255, 255), thickness)):
        cv2.putText(picture, str(row.number), (x, y), _FONT, size, colour, line, cv2.LINE_AA)


def _inside(place: float, last: int) -> int:
    return max(0, min(round(place), last))
