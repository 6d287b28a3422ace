"""Read JPEG 2000 of more than 8 bits: its very values, as files of satellites have them.

Pillow scales such values up to 16 bits, or cuts colours down to 8, so that `INPUT.RANGE` would be
of other numbers than the file's.

H W of an image, C of its components.
"""

import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

# A file in boxes, and a codestream without them, which begins with the markers SOC and SIZ.
_BOXES, _STREAM = b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"
_MOST_BITS = 16
_READ = (1, 3, 4)


@dataclass(frozen=True)
class Codestream:
    """What a codestream's header says.

    Attributes:
        height, width: in pixels.
        bits: of each component; below 0 for one with a sign.
        is_subsampled: a component has fewer pixels than the image.
    """

    height: int
    width: int
    bits: tuple[int, ...]
    is_subsampled: bool

    @property
    def is_deep(self) -> bool:
        """Whether OpenCV reads its values as they are, of which 8 bits are too few."""
        plain = min(self.bits) > 0 and not self.is_subsampled
        return plain and 8 < max(self.bits) <= _MOST_BITS and len(self.bits) in _READ


def is_jpeg2000(head: bytes) -> bool:
    """Tell from a file's first bytes whether it is JPEG 2000."""
    return head.startswith((_BOXES, _STREAM))


def read_header(data: Any) -> Codestream:
    """Return what the header says.

    Args:
        data: the file's bytes.

    Raises:
        ValueError, struct.error: the file is broken, or has more components than can be read.
    """
    start = 0 if data[:4] == _STREAM else _stream_in_boxes(data)
    # SIZ: its length and profile, then the far and near corners, and the same of a tile.
    right, below, left, above = struct.unpack(">4I", data[start + 8 : start + 24])
    (count,) = struct.unpack(">H", data[start + 40 : start + 42])
    each = data[start + 42 : start + 42 + 3 * count]
    if not count or len(each) < 3 * count:
        raise ValueError("its header is cut off")
    if count > max(_READ):
        raise ValueError(
            f"it is JPEG 2000 with {count} bands, and at most {max(_READ)} are read; convert it to "
            "a TIFF"
        )
    # Seven bits are the depth less one, the eighth is the sign.
    bits = tuple((-1 if value & 128 else 1) * ((value & 127) + 1) for value in each[::3])
    return Codestream(below - above, right - left, bits, set(each[1::3] + each[2::3]) != {1})


def decode(data: bytes, header: Codestream) -> np.ndarray:
    """Return the values, uint16 [H, W, C], colours red first.

    Raises:
        ValueError: OpenCV can't decode it.
    """
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    count = len(header.bits)
    if values is None or values.size != header.height * header.width * count:
        raise ValueError("OpenCV can't decode it")
    values = values.reshape(header.height, header.width, count).astype(np.uint16)
    return values if count == 1 else values[:, :, [2, 1, 0, 3][:count]]


def _stream_in_boxes(data: Any) -> int:
    """Return the place of the codestream in a file of boxes."""
    place = 0
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        header = 8
        if length == 1:  # the length is too great for 32 bits
            (length,) = struct.unpack(">Q", data[place + 8 : place + 16])
            header = 16
        if kind == b"jp2c":
            if data[place + header : place + header + 4] != _STREAM:
                break
            return place + header
        if length < header:  # 0 is the rest of the file
            break
        place += length
    raise ValueError("it has no pixels")
