"""Reading of image files: 8-bit and deeper, grayscale, CMYK, turned by EXIF, or with several pages.

Shape letters: H W height and width of an image, C channels.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.utils.file_io import PathManager
from PIL import ExifTags, Image, ImageOps

from ...errors import DataError, SoloFamilyError
from ...pictures.depth import to_8_bits
from ...pictures.formats import Format, in_format, parse_format, to_picture
from ...pictures.stored import open_stored, unreadable, values_in_8_bits
from .reduced import Target

logger = logging.getLogger(__name__)

TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
# Pillow's limit of H times W, above which it considers a file a decompression bomb.
MOST_PIXELS = 178_956_970
_DEEP_MODES = ("I", "F")


@dataclass(frozen=True)
class Reading:
    """How image files are read.

    Attributes:
        value_range: the values of files deeper than 8 bits that become 0 and 255. None infers 0 to
            65535 for files that use 16 bits and 0 to 1 for floating-point files, and refuses
            others.
        max_pixels: the largest H times W that is opened.
        image_format: the working format of `INPUT.FORMAT`: colours are BGR, whatever the model's
            order.
        bands: the channels that are drawn; see `Format.shown`.
        page: of a TIFF of several pictures, from 1; None reads the first.
        target: JPEG files are decoded at a half, a quarter or an eighth of their size if that is
            not below this one; None decodes them whole.
    """

    value_range: tuple[float, float] | None = None
    max_pixels: int = MOST_PIXELS
    image_format: str = "BGR"
    bands: tuple[int, ...] = ()
    page: int | None = None
    target: Target | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Reading":
        """Return the options that the keys of `INPUT` stand for."""
        given = cfg.INPUT.RANGE
        return cls(
            None if given in (None, "auto") else (float(given[0]), float(given[1])),
            cfg.INPUT.MAX_PIXELS or MOST_PIXELS,
            parse_format(cfg.INPUT.FORMAT).working.name,
            tuple(cfg.INPUT.BANDS),
        )

    @property
    def format(self) -> Format:
        """The working format."""
        return parse_format(self.image_format)

    def of_page(self, page: int | None) -> "Reading":
        """Return these options for a page of a file; None leaves them as they are."""
        return self if page is None else replace(self, page=page)

    def picture(self, image: np.ndarray) -> np.ndarray:
        """Return an image of the working format as a picture to draw on: [H, W, 3], BGR."""
        return to_picture(image, self.format, self.bands)


def read_image(path: str, image_format: str, reading: Reading | None = None) -> np.ndarray:
    """Read an image as detectron2 does: turned upright by its EXIF tag, in the given format.

    Grayscale and CMYK are converted and transparency is dropped. Images of more than 8 bits are
    scaled to 8 bits, where detectron2 would clip them at 255. Of a file with several pages the
    first is read, with a warning.

    Args:
        path: of a file that Pillow can read, a TIFF of any number of bands, or an array (.npy,
            .npz).
        image_format: see `parse_format`.
        reading: how files are read; by default `Reading()`.

    Returns:
        uint8 [H, W, C].

    Raises:
        OtherChannels: the file has other channels than the format, which are not converted.
        DataError: the file is missing, can't be decoded, is too large, or has more than 8 bits and
            a range of values that only `INPUT.RANGE` can tell. The message names the file.
    """
    reading, wanted = reading or Reading(), parse_format(image_format)
    try:
        with PathManager.open(path, "rb") as file:
            stored = open_stored(path, file, wanted, reading.page)
            if stored is not None:
                _check_pixels(path, stored.height, stored.width, reading)
                _name_pages(path, stored.pages)
                values = values_in_8_bits(path, stored, wanted, reading.value_range)
                return in_format(path, values, wanted)
            with _opened(file) as image:
                if reading.page is None:
                    _name_pages(path, getattr(image, "n_frames", 1))
                else:
                    image.seek(reading.page - 1)
                _check_pixels(path, image.height, image.width, reading)
                if reading.target is not None:
                    reading.target.draft(image)
                return converted(path, image, reading, wanted)
    except SoloFamilyError:
        raise
    except Exception as error:  # Pillow's decoders can raise any error for a broken file
        raise unreadable(path, error) from error


def converted(path: str, image: Image.Image, reading: Reading, wanted: Format) -> np.ndarray:
    """Return a Pillow picture, turned upright, as `read_image` returns its file: uint8 [H, W, C].

    Raises:
        OtherChannels, UntoldRange: see `read_image`; `path` is named in them.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode[:1] in _DEEP_MODES:
        image = Image.fromarray(to_8_bits(path, np.asarray(image), reading.value_range))
    if wanted.is_converted:
        # A copy: OpenCV and torch want neither read-only nor reversed views.
        return convert_PIL_to_numpy(image, wanted.name).copy()
    if image.mode in ("P", "PA", "1"):
        image = image.convert("RGBA" if image.mode == "PA" else "RGB" if image.mode == "P" else "L")
    values = np.asarray(image)
    return in_format(path, values.reshape(*values.shape[:2], -1), wanted)


class Header(NamedTuple):
    """What a file's header says.

    Attributes:
        height, width: in pixels, upright.
        channels: without transparency where colours are read.
        is_deep: it has more than 8 bits, or fractions.
        orientation: EXIF's, 1 to 8, where Pillow reads the file; else 1.
    """

    height: int
    width: int
    channels: int
    is_deep: bool
    orientation: int = 1


def read_header(path: str, wanted: Format) -> Header:
    """Return what a file's header says of the image that is read in a format.

    Raises:
        DataError: the file is missing, or begins like no image; names it and the reason.
    """
    try:
        with PathManager.open(path, "rb") as file:
            stored = open_stored(path, file, wanted)
            if stored is not None:
                dropped = stored.has_alpha and wanted.drops_alpha
                is_deep = stored.dtype not in (np.uint8, bool)
                return Header(stored.height, stored.width, stored.channels - dropped, is_deep)
            with _opened(file) as image:
                # Pillow would decode the whole PNG to look for a tag behind the pixels.
                has_tags = image.format != "PNG" or "exif" in image.info
                tags = image.getexif() if has_tags else {}
                orientation = tags.get(ExifTags.Base.Orientation, 1)
                turned = orientation in TURNED and image.format != "TIFF"
                height, width = image.size if turned else (image.height, image.width)
                bands = {"P": 3, "PA": 4}.get(image.mode, len(image.getbands()))
                channels = 3 if wanted.is_converted else bands  # what there is becomes colours
                is_deep = image.mode[:1] in _DEEP_MODES
                return Header(height, width, channels, is_deep, orientation)
    except SoloFamilyError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error


def read_image_size(path: str) -> tuple[int, int]:
    """Return the height and width of what `read_image` returns, from the file's header.

    Raises:
        DataError: the file is missing, or is not an image; the message names it and the reason.
    """
    return read_header(path, parse_format("BGR"))[:2]


def check_size(record: dict[str, Any], size: tuple[int, int]) -> None:
    """Check that an image has the size that its dict says; a dict that says none gets it.

    Args:
        record: detectron2's dict, with `file_name`.
        size: height and width of the image, in pixels.

    Raises:
        DataError: the dict says another size.
    """
    given = (record.setdefault("height", size[0]), record.setdefault("width", size[1]))
    if given != size:
        raise DataError(
            f"{record['file_name']} is {size[0]} x {size[1]}, but the dataset says {given[0]} x "
            f"{given[1]} (height x width). Correct the dataset's sizes; or, if the image was "
            "resized or turned after its labels were drawn, the labels"
        )


def is_turned(path: str) -> bool:
    """Tell from a file's header whether its pixels have to be turned or mirrored.

    Of a file that Pillow can't open, other readers may know more.
    """
    try:
        with PathManager.open(path, "rb") as file, _opened(file) as image:
            return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except SoloFamilyError:
        raise
    except Exception:
        return False


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Any]:
    """Open an image of any size; Pillow's own limit is lifted for the time."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(file) as image:
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _check_pixels(path: str, height: int, width: int, reading: Reading) -> None:
    pixels = width * height
    if pixels > reading.max_pixels:
        raise DataError(
            f"{path} has {height} x {width} pixels, and files of more than "
            f"{reading.max_pixels} pixels are not opened. If the size is right and the memory "
            f"suffices, set INPUT.MAX_PIXELS {pixels}"
        )


@cache
def _name_pages(path: str, pages: int) -> None:
    if pages > 1:
        logger.warning("%s has %d pages: only the first one is read.", path, pages)
