"""Conversion of images of all supported types to the array that models expect.

Shape letters: H W height and width of the image.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..data.loading.images import Reading, converted, read_image
from ..errors import DataError
from ..pictures.depth import likely_top
from ..pictures.formats import COLOURS, Format, in_format


def to_working(picture: Any, channels: str | None, reading: Reading) -> np.ndarray:
    """Return a picture as uint8 [H, W, C] of the reading's format: of colours blue first.

    Args:
        picture: the path of a file; a Pillow image; a numpy array, uint8 [H, W], [H, W, 1], [H, W,
            3] or, with transparency, [H, W, 4]; or a tensor, uint8 [1 or 3, H, W]. For a model of
            other channels an array or a tensor of these, in the order of `INPUT.FORMAT`.
        channels: "RGB" or "BGR", for arrays and tensors in colour. Files and Pillow images have a
            known order.
        reading: how files are read.

    Raises:
        DataError: it is none of these, or the order of its colours is not given.
    """
    if channels is not None and channels not in COLOURS:
        raise DataError(f"channels is {channels!r}; allowed: {', '.join(map(repr, COLOURS))}.")
    if isinstance(picture, str | Path):
        return read_image(str(picture), reading.image_format, reading)
    wanted = reading.format
    if isinstance(picture, Image.Image):
        return converted("A Pillow image", picture, reading, wanted)
    if isinstance(picture, torch.Tensor):
        if picture.ndim != 3 or picture.shape[0] not in (1, 3, wanted.count):
            raise DataError(
                f"A tensor of a picture must be uint8 [{wanted.count}, H, W]; this one is "
                f"{list(picture.shape)}. Permute it, or give several pictures as a list."
            )
        # Numpy has no bfloat16, and takes no tensor that wants gradients.
        is_half = picture.dtype == torch.bfloat16
        pixels = (picture.float() if is_half else picture).detach()
        picture = pixels.permute(1, 2, 0).cpu().numpy()
    if not isinstance(picture, np.ndarray):
        raise DataError(
            "A picture is the path of a file, a Pillow image, a numpy array or a tensor; this "
            f"one is a {type(picture).__name__}. Give several pictures as a list, those of a "
            "generator to `stream`, and the bytes of a file as Image.open(io.BytesIO(...))."
        )
    return _array_to_working(picture, channels, wanted)


def _array_to_working(array: np.ndarray, channels: str | None, wanted: Format) -> np.ndarray:
    if array.dtype != np.uint8:
        raise DataError(
            "A picture in an array or a tensor is uint8, 0 to 255; this one is "
            f"{array.dtype}{_what_to_do(array)}."
        )
    if array.ndim == 2:
        array = array[:, :, None]
    own = f", or [H, W, {wanted.count}] for INPUT.FORMAT {wanted.name}"
    taken = (1, 3, 4) if wanted.is_converted else (wanted.count,)
    if array.ndim != 3 or array.shape[2] not in taken or array.size == 0:
        raise DataError(
            "A picture in an array is uint8 [H, W], [H, W, 3] or [H, W, 4]"
            f"{'' if wanted.is_converted else own}; this one is {list(array.shape)}."
        )
    if array.shape[2] == 1 or not wanted.is_converted:
        return in_format("The array", array, wanted)
    if channels is None:
        raise DataError(
            "The order of an array's colours can't be inferred: give channels='RGB' (Pillow, "
            "matplotlib, scikit-image) or channels='BGR' (OpenCV)."
        )
    order = [0, 1, 2] if channels == "RGB" else [2, 1, 0]
    if array.shape[2] == 4 and wanted.name == "RGBA":
        order = [*order, 3]
    return in_format("The array", array[:, :, order], wanted)


def _what_to_do(array: np.ndarray) -> str:
    """Return the range of numbers that are not uint8, and how they become a picture."""
    if array.dtype.kind not in "biuf" or not array.size:
        return ""
    low, high = float(array.min()), float(array.max())
    is_fraction = array.dtype.kind in "bf" and low >= 0 and high <= 1
    top = 1 if is_fraction else likely_top(low, high)
    there = f", {low:g} to {high:g}"
    if top == 255:
        return f"{there}. {'Round it, and give' if array.dtype.kind == 'f' else 'Give'} it as uint8"
    if top is None and not high - low > 0:
        return there
    scaled = f"(x - {low:g}) * (255 / {high - low:g})" if top is None else f"x * (255 / {top})"
    return f"{there}. Scale it, for instance ({scaled}).round(), and give it as uint8"
