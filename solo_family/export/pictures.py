"""Read picture files for an exported model as training reads them, with numpy and OpenCV.

H W of a picture, C of its channels.
"""

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import DataError
from ..pictures.formats import Format, in_format, parse_format
from ..pictures.stored import open_stored, unreadable, upright, values_in_8_bits

# Files are BGR unless the model has other channels.
_COLOURS: dict[str, Any] = {"color": "BGR"}
# In a file that may say how it was held, whatever its format.
_EXIF = re.compile(b"exif", re.IGNORECASE)


def read_picture(path: str | Path, given: dict[str, Any] | None = None) -> np.ndarray:
    """Read a picture, rotated upright according to its EXIF tag.

    Args:
        path: of a picture, a TIFF of any number of bands, or an array (.npy, .npz).
        given: `input` of the model's description: its channels, and the range of files deeper than
            8 bits; None for colours.

    Returns:
        uint8 [H, W, C]: of a model of colours [H, W, 3], BGR; else the model's channels.

    Raises:
        DataError: it is missing, can't be decoded, has other channels, or values of which nobody
            has said what they are.
    """
    given = given or _COLOURS
    wanted = parse_format(given["color"]).working
    value_range = None if given.get("range") is None else tuple(given["range"])
    name = str(path)
    try:
        with open(path, "rb") as file:
            stored = open_stored(name, file, wanted, by_opencv=True)
            if stored is not None:
                return in_format(name, values_in_8_bits(name, stored, wanted, value_range), wanted)
            return in_format(name, _decoded(file.read(), wanted), wanted)
    except DataError:
        raise
    except Exception as error:
        raise unreadable(name, error) from error


def _decoded(content: bytes, wanted: Format) -> np.ndarray:
    """Return a picture of 8 bits with its colours, red first, or with its own channels."""
    image = _by_opencv(content, cv2.IMREAD_COLOR if wanted.drops_alpha else cv2.IMREAD_UNCHANGED)
    if not wanted.drops_alpha and _EXIF.search(content):
        image = _turned_like(image, _by_opencv(content, cv2.IMREAD_COLOR))
    order = [2, 1, 0, 3][: image.shape[2]] if image.shape[2] > 2 else slice(None)
    return image[:, :, order]


def _by_opencv(content: bytes, flags: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise ValueError("it is empty") from error
    if image is None:
        raise ValueError("OpenCV can't decode it")
    return image.reshape(*image.shape[:2], -1)


def _turned_like(image: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Return a picture upright.

    Args:
        image: with all its channels, which OpenCV does not turn.
        colours: the same picture, BGR, which OpenCV has turned by its EXIF tag.
    """
    for orientation in range(1, 9):
        turned = upright(image, orientation)
        # A grey picture is as any of three equal colours.
        if np.array_equal(turned[:, :, :3] + np.zeros(3, image.dtype), colours):
            return turned
    return image
