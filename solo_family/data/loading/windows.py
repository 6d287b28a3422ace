"""Reading of an image window by window, without decoding the rest if its format allows that.

Shape letters: H W height and width of the image, h w height and width of a window.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy
from PIL import Image

from ...errors import DataError, SoloFamilyError, first_line
from ...ops.window import Window
from ...pictures.depth import infer_range, to_8_bits
from ...pictures.formats import parse_format
from .images import Reading, read_image
from .large_files import Opened, open_npy, open_rasterio, open_tiff

# Rows and columns of a large image that are read at a time.
_ROWS, _COLUMNS = 256, 4096


class WindowReader(Protocol):
    """An image that can be read in parts."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        ...

    def read(self, window: Window) -> np.ndarray:
        """Return a copy of a window, uint8 [h, w, 3].

        Raises:
            DataError: the window can't be read; the message names the file and the window.
        """
        ...


class ArrayWindows:
    """The windows of an array in memory.

    Args:
        image: uint8 [H, W, 3].
    """

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self.size = (image.shape[0], image.shape[1])

    def read(self, window: Window) -> np.ndarray:
        """Return a window; see `WindowReader`."""
        return self.image[window.top : window.bottom, window.left : window.right].copy()


def read_whole(windows: WindowReader) -> np.ndarray:
    """Return all of an image, uint8 [H, W, 3]; what can't be read is black."""
    if isinstance(windows, ArrayWindows):
        return windows.image
    height, width = windows.size
    image = np.zeros((height, width, 3), np.uint8)
    for top in range(0, height, _ROWS):
        for left in range(0, width, _COLUMNS):
            part = Window(top, left, min(top + _ROWS, height), min(left + _COLUMNS, width))
            with suppress(DataError):
                image[part.top : part.bottom, part.left : part.right] = windows.read(part)
    return image


class _FileWindows:
    """The windows of a file whose format can be read by windows.

    Args:
        path: of the file, for messages.
        size: (H, W), in pixels.
        read: returns the values of a window, [h, w] or RGB [h, w, 3].
        image_format: the channel order to return, "RGB" or "BGR".
        reading: how values of more than 8 bits are read.
    """

    def __init__(
        self,
        path: str,
        size: tuple[int, int],
        read: Callable[[Window], np.ndarray],
        image_format: str,
        reading: Reading,
    ) -> None:
        self.size = size
        self._path = path
        self._read = read
        self._format = image_format
        self._reading = reading

    def read(self, window: Window) -> np.ndarray:
        """Return a window; see `WindowReader`."""
        values = self._values(window)
        if values.dtype != np.uint8:
            values = to_8_bits(self._path, values, self._value_range)
        return convert_PIL_to_numpy(Image.fromarray(values), self._format).copy()

    def _values(self, window: Window) -> np.ndarray:
        try:
            return np.ascontiguousarray(self._read(window))
        except SoloFamilyError:
            raise
        except Exception as error:  # decoders can raise any error for a broken file
            raise DataError(
                f"{self._path}, {window}: can't be read: {first_line(error)}. Export or copy the "
                "file again."
            ) from error

    @cached_property
    def _value_range(self) -> tuple[float, float]:
        """The values that become 0 and 255, determined from the whole image, not from a window."""
        if self._reading.value_range is not None:
            return self._reading.value_range
        height, width = self.size
        extremes: list[Any] = []
        for top in range(0, height, _ROWS):
            values = self._values(Window(top, 0, min(top + _ROWS, height), width))
            extremes += [values.min(), values.max()]
        return infer_range(self._path, np.array(extremes))


def open_windows(path: str, image_format: str, reading: Reading | None = None) -> WindowReader:
    """Open an image for reading by windows; pixels have the same values as `read_image`'s.

    A .npy file is mapped into memory. A TIFF is read by windows with tifffile or rasterio, if one
    of them is installed (both are in the extra "large"), unless it is of a kind that only Pillow
    supports (palettes, CMYK, turned by a tag). All other images are decoded completely, which
    `INPUT.MAX_PIXELS` must allow.

    Args:
        path: of the file.
        image_format: the channel order to return, "RGB" or "BGR".
        reading: how files are read; by default `Reading()`.

    Raises:
        DataError: the file is missing, is not an image, or has too many pixels to be decoded.
    """
    reading = reading or Reading()
    suffix = Path(path).suffix.lower()
    opened: Opened | None = None
    if not parse_format(image_format).is_converted or reading.page is not None:
        pass  # channels, or pages, that the readers below don't have
    elif suffix == ".npy":
        opened = open_npy(path)
    elif suffix in (".tif", ".tiff"):
        opened = open_tiff(path) or open_rasterio(path)
    if opened is None:
        return ArrayWindows(read_image(path, image_format, reading))
    size, read = opened
    return _FileWindows(path, size, lambda window: read(*window), image_format, reading)
