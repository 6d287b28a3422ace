"""Reading of image files: 8-bit and deeper, grayscale, CMYK, turned by EXIF, or with several pages.

Shape letters: H W height and width of an image, C channels.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.utils.file_io import PathManager
from PIL import ExifTags, Image, ImageOps

from ...errors import DataError, SoloFamilyError

logger = logging.getLogger(__name__)

_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
# Pillow's limit of H times W, above which it considers a file a decompression bomb.
MOST_PIXELS = 178_956_970
# The largest values of common bit depths: 8, 10, 12, 14 and 16 bits.
_RANGES = (255, 1023, 4095, 16383, 65535)
_DEEP_MODES = ("I", "F")


class UntoldRange(DataError):
    """Say that the range of a deep image's values can't be inferred from the file.

    Args:
        values: the smallest and the largest value, as text.
        message: the complete error message.
    """

    def __init__(self, values: str, message: str) -> None:
        super().__init__(message)
        self.values = values


@dataclass(frozen=True)
class Reading:
    """How image files are read.

    Attributes:
        value_range: the values of files deeper than 8 bits that become 0 and 255. None infers 0 to
            65535 for files that use 16 bits and 0 to 1 for floating-point files, and refuses
            others.
        max_pixels: the largest H times W that is opened.
    """

    value_range: tuple[float, float] | None = None
    max_pixels: int = MOST_PIXELS

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Reading":
        """Return the options that `INPUT.RANGE` and `INPUT.MAX_PIXELS` stand for."""
        given = cfg.INPUT.RANGE
        value_range = None if given in (None, "auto") else (float(given[0]), float(given[1]))
        return cls(value_range, cfg.INPUT.MAX_PIXELS or MOST_PIXELS)


def read_image(path: str, image_format: str, reading: Reading | None = None) -> np.ndarray:
    """Read an image as detectron2 does: turned upright by its EXIF tag, in the given format.

    Grayscale and CMYK are converted and transparency is dropped. Images of more than 8 bits are
    scaled to 8 bits, where detectron2 would clip them at 255. Of a file with several pages the
    first is read, with a warning.

    Args:
        path: of a file that Pillow can read.
        image_format: "RGB", "BGR" or another mode of Pillow's.
        reading: how files are read; by default `Reading()`.

    Returns:
        uint8 [H, W, C].

    Raises:
        DataError: the file is missing, can't be decoded, is too large, or has more than 8 bits and
            a range of values that only `INPUT.RANGE` can tell. The message names the file.
    """
    reading = reading or Reading()
    try:
        with _opened(path) as image:
            _check_pixels(path, image, reading)
            _name_pages(path, getattr(image, "n_frames", 1))
            upright = ImageOps.exif_transpose(image)
            if upright.mode[:1] in _DEEP_MODES:
                values = np.asarray(upright)
                upright = Image.fromarray(to_8_bits(values, value_range(path, values, reading)))
            # A copy, because OpenCV and torch accept neither read-only nor reversed views.
            return convert_PIL_to_numpy(upright, image_format).copy()
    except SoloFamilyError:
        raise
    except Exception as error:  # Pillow's decoders can raise any error for a broken file
        raise _unreadable(path, error) from error


def is_deep(path: str) -> bool:
    """Return whether a file has integers of more than 8 bits or floats, according to its header.

    Raises:
        DataError: the file is missing, or is not an image.
    """
    try:
        with _opened(path) as image:
            return image.mode[:1] in _DEEP_MODES
    except SoloFamilyError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def read_image_size(path: str) -> tuple[int, int]:
    """Return the height and width of what `read_image` returns, from the file's header.

    Raises:
        DataError: the file is missing, or is not an image; the message names it and the reason.
    """
    try:
        with _opened(path) as image:
            # For a PNG, Pillow would decode all pixels to look for a tag after them.
            tags = {} if image.format == "PNG" and "exif" not in image.info else image.getexif()
            turned = tags.get(ExifTags.Base.Orientation) in _TURNED and image.format != "TIFF"
            return image.size if turned else (image.height, image.width)
    except SoloFamilyError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def is_turned(path: str) -> bool:
    """Tell from a file's header whether its pixels have to be turned or mirrored.

    Of a file that Pillow can't open, other readers may know more.
    """
    try:
        with _opened(path) as image:
            return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except SoloFamilyError:
        raise
    except Exception:
        return False


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Open an image of any size; Pillow's own limit is lifted for the time."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with PathManager.open(path, "rb") as file, Image.open(file) as image:
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _check_pixels(path: str, image: Any, reading: Reading) -> None:
    pixels = image.width * image.height
    if pixels > reading.max_pixels:
        raise DataError(
            f"{path} has {image.height} x {image.width} pixels, and files of more than "
            f"{reading.max_pixels} pixels are not opened. If the size is right and the memory "
            f"suffices, set INPUT.MAX_PIXELS {pixels}"
        )


@cache
def _name_pages(path: str, pages: int) -> None:
    if pages > 1:
        logger.warning("%s has %d pages: only the first one is read.", path, pages)


def value_range(path: str, values: np.ndarray, reading: Reading) -> tuple[float, float]:
    """Return the values that become 0 and 255, for a file of more than 8 bits or of floats.

    Args:
        path: of the file, for the message.
        values: all values of the file, or its smallest and largest.
        reading: may set the range.

    Raises:
        UntoldRange: `reading` does not set the range, and it can't be inferred from the values.
    """
    return reading.value_range or _range_of(path, values)


def to_8_bits(values: np.ndarray, black_and_white: tuple[float, float]) -> np.ndarray:
    """Scale integers of more than 8 bits, or floats, [H, W], to uint8.

    Args:
        values: the image.
        black_and_white: the values that become 0 and 255.
    """
    low, high = black_and_white
    if (low, high) == (0, 65535):
        return (values // 257).clip(0, 255).astype(np.uint8)
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.nan_to_num(scaled).round().clip(0, 255).astype(np.uint8)


def _range_of(path: str, values: np.ndarray) -> tuple[float, float]:
    """Return the range that the values must have.

    Raises:
        UntoldRange: several ranges are possible.
    """
    least, most = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if values.dtype.kind == "f":
        if least >= 0 and most <= 1:
            return 0, 1
    elif least >= 0 and (most == 0 or _RANGES[-2] < most <= _RANGES[-1]):
        return 0, _RANGES[-1]
    likely = next((top for top in _RANGES if least >= 0 and most <= top), None)
    suggested = f"(0, {likely})" if likely else f"({least:g}, {most:g})"
    raise UntoldRange(
        f"{least:g} to {most:g}",
        f"{path} has values from {least:g} to {most:g}, in {values.dtype.itemsize * 8} bits. Their "
        "range can't be inferred, and a wrong one makes images black or white. Set INPUT.RANGE to "
        f'the values that are black and white in all files, for instance INPUT.RANGE "{suggested}"',
    )


def _unreadable(path: str, error: Exception) -> DataError:
    reason = str(error) or type(error).__name__
    return DataError(f"{path} can't be read as an image: {reason}")
