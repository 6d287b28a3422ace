"""Read PGM and PPM whose white is not 255, as cameras of 10 or 12 bits write them.

The header says which value is white. Pillow scales values by it, to 16 bits where there are more
than 8, so that `INPUT.RANGE` would be of other numbers than the file's; OpenCV does not scale.

H W of an image, C of its channels.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

# A blank, or a comment up to the end of its line.
_GAP = rb"(?:\s|#[^\n\r]*[\n\r])"
_HEADER = re.compile(
    rb"P([2356])" + _GAP + rb"+(\d+)" + _GAP + rb"+(\d+)" + _GAP + rb"+(\d+)(?:#[^\n\r]*)?\s"
)
_MOST_HEADER = 4096  # bytes
_WHITE_OF_8_BITS, _MOST_WHITE = 255, 65535


@dataclass(frozen=True)
class Netpbm:
    """What a header says.

    Attributes:
        height, width: in pixels.
        channels: 1 or 3.
        white: the greatest value.
        is_text: the values are decimal numbers.
        start: the place of the first value.
    """

    height: int
    width: int
    channels: int
    white: int
    is_text: bool
    start: int

    @property
    def is_deep(self) -> bool:
        """Whether 8 bits are too few for the values."""
        return self.white > _WHITE_OF_8_BITS


def read_header(data: Any) -> Netpbm | None:
    """Return what the header says; None of a file that a reader of 8 bits reads as it is.

    Args:
        data: the file's bytes.
    """
    found = _HEADER.match(bytes(data[:_MOST_HEADER]))
    if found is None:
        return None
    kind, width, height, white = (int(text) for text in found.groups())
    if white in (0, _WHITE_OF_8_BITS) or white > _MOST_WHITE:
        return None
    return Netpbm(height, width, 3 if kind in (3, 6) else 1, white, kind < 4, found.end())


def decode(data: Any, header: Netpbm) -> np.ndarray:
    """Return a picture, [H, W, C], colours red first: uint16, or of 8 bits and less uint8, scaled.

    Raises:
        ValueError: see `numbers`.
    """
    values = numbers(data, header)
    if header.is_deep:
        return values
    return np.round(values * (_WHITE_OF_8_BITS / header.white)).astype(np.uint8)


def numbers(data: Any, header: Netpbm) -> np.ndarray:
    """Return the numbers in a file, uint8 or uint16 [H, W, C], colours red first.

    Raises:
        ValueError: the file has too few, or one above its white.
    """
    count = header.height * header.width * header.channels
    if header.is_text:
        text = re.sub(rb"#[^\n\r]*", b" ", bytes(data[header.start :]))
        values = np.array(text.split(None, count)[:count]).astype(np.int64)
    else:
        kind = np.dtype(">u2" if header.is_deep else "u1")
        content = bytes(data[header.start : header.start + count * kind.itemsize])
        values = np.frombuffer(content[: len(content) // kind.itemsize * kind.itemsize], kind)
    if len(values) < count:
        raise ValueError(f"it is cut off: it has {len(values)} of {count} values")
    if values.size and values.max() > header.white:
        raise ValueError(f"it has the value {values.max()}, above its white, {header.white}")
    values = values.astype(np.uint16 if header.is_deep else np.uint8)
    return values.reshape(header.height, header.width, header.channels)
