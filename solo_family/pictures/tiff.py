"""Read TIFFs of any number of bands, which neither Pillow nor OpenCV does (TIFF 6.0, BigTIFF).

H W of a page, C of its bands.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

# Tags.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR = 273, 274, 277, 278, 279, 284
_PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 317, 322, 323, 324, 325
_EXTRA, _KIND = 338, 339
# Their types that matter here, as struct has them.
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_NONE, _DEFLATE = 1, (8, 32946)
_RGB = 2  # of _PHOTOMETRIC
# What libtiff decompresses without knowing bands: LZW and PackBits.
_BY_LIBTIFF = (5, 32773)
_KINDS = {1: "u", 2: "i", 3: "f"}
# No picture has more; a broken file says anything.
_MOST_PAGES, _MOST_VALUES = 10_000, 50_000_000


@dataclass(frozen=True)
class Page:
    """One page of a file, not yet decoded.

    Attributes:
        height, width: in pixels, as stored.
        bands: C.
        dtype: of the values, in the file's order of bytes.
        orientation: EXIF's, 1 to 8.
        tags: all others.
        order: the file's order of bytes, "<" or ">".
    """

    height: int
    width: int
    bands: int
    dtype: np.dtype
    orientation: int
    tags: dict[int, tuple[int, ...]]
    order: str

    def one(self, tag: int, default: int) -> int:
        """Return a tag's only value."""
        return self.tags.get(tag, (default,))[0]

    @property
    def is_plain(self) -> bool:
        """Whether `decode` can read it: values of pixels, in a compression without loss."""
        known = (_NONE, *_DEFLATE, *_BY_LIBTIFF)
        return (
            self.dtype.kind != "V"
            and self.one(_COMPRESSION, _NONE) in known
            and self.one(_PHOTOMETRIC, 1) in (0, 1, 2)
            and self.one(_PREDICTOR, 1) in (1, 2, 3)
        )

    @property
    def is_ordinary(self) -> bool:
        """Whether it is a picture of 8 bits or fewer, in colours that any decoder makes of it."""
        if self.dtype.itemsize > 1:
            return False
        return self.bands in {1: (1,), 2: (3, 4)}.get(self.one(_PHOTOMETRIC, 1), range(1, 5))

    @property
    def is_deep_colour(self) -> bool:
        """Whether Pillow would read its colours, and drop the lower half of their bits."""
        plain = self.one(_PHOTOMETRIC, 1) in (0, 1, 2)
        return plain and self.bands > 1 and self.dtype.itemsize > 1

    @property
    def has_alpha(self) -> bool:
        """Whether it says that its last band is transparency."""
        return self.bands > 1 and self.tags.get(_EXTRA, (0,))[-1] in (1, 2)

    @property
    def is_clear_colour(self) -> bool:
        """Whether it has red, green, blue and transparency, of 8 bits, which `decode` can read."""
        is_colour = self.bands == 4 and self.one(_PHOTOMETRIC, 1) == _RGB
        return is_colour and self.has_alpha and self.dtype.itemsize == 1 and self.is_plain

    @property
    def is_multiplied(self) -> bool:
        """Whether it says that its colours were multiplied by its transparency."""
        return self.bands > 1 and self.tags.get(_EXTRA, (0,))[-1] == 1

    @property
    def has_fourth_band(self) -> bool:
        """Whether a band comes after red, green and blue; CMYK's black is part of its colours."""
        return self.bands == 4 and self.one(_PHOTOMETRIC, 1) == _RGB and not self.has_alpha

    @property
    def described(self) -> str:
        """Its compression and its values, for errors."""
        return f"compression {self.one(_COMPRESSION, _NONE)}, {self.bands} bands of {self.dtype}"


def is_tiff(data: Any) -> bool:
    """Tell a TIFF or BigTIFF by its first bytes."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_pages(data: Any) -> list[Page]:
    """Return the pages of a file, without decoding them.

    Raises:
        ValueError, struct.error: the file is broken, or has a kind of values that no picture has.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    place = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    pages: list[Page] = []
    seen: set[int] = set()
    while place and place not in seen and len(pages) < _MOST_PAGES:
        seen.add(place)
        tags, place = _read_tags(data, place, order, big)
        pages.append(_page(tags, order))
    return pages


def _read_tags(
    data: Any, place: int, order: str, big: bool
) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return the whole numbers of a directory, and the place of the next."""
    count_form, offset_form = ("Q", "Q") if big else ("H", "I")
    (count,) = struct.unpack_from(order + count_form, data, place)
    place += struct.calcsize(order + count_form)
    room = struct.calcsize(order + offset_form)
    tags = {}
    for _ in range(min(count, 4096)):
        tag, kind, number = struct.unpack_from(f"{order}HH{offset_form}", data, place)
        at = place + 4 + room
        if kind in _TYPES and number <= _MOST_VALUES:
            form = f"{order}{number}{_TYPES[kind]}"
            if struct.calcsize(form) > room:
                (at,) = struct.unpack_from(order + offset_form, data, at)
            tags[tag] = struct.unpack_from(form, data, at)
        place += 4 + 2 * room
    (following,) = struct.unpack_from(order + offset_form, data, place)
    return {tag: values for tag, values in tags.items() if values}, following


def _page(tags: dict[int, tuple[int, ...]], order: str) -> Page:
    bands = tags.get(_SAMPLES, (1,))[0]
    bits, kinds = tags.get(_BITS, (1,)), tags.get(_KIND, (1,))
    mixed = len({*bits}) > 1 or len({*kinds}) > 1
    if mixed or bits[0] not in (8, 16, 32, 64) or kinds[0] not in (*_KINDS, 4):
        dtype = np.dtype("V1")  # single bits and the like, which `decode` doesn't read
    else:
        dtype = np.dtype(f"{order}{_KINDS.get(kinds[0], 'u')}{bits[0] // 8}")
    if _WIDTH not in tags or _HEIGHT not in tags or bands < 1:
        raise ValueError("it has no width or height")
    orientation = tags.get(_ORIENTATION, (1,))[0]
    return Page(tags[_HEIGHT][0], tags[_WIDTH][0], bands, dtype, orientation, tags, order)


def decode(page: Page, data: Any) -> np.ndarray:
    """Return the values of a page, [H, W, C] in the machine's order of bytes, as stored.

    Raises:
        ValueError, struct.error, cv2.error: the file is broken.
    """
    if not page.is_plain:
        raise ValueError(f"its compression or kind of values is not read ({page.described})")
    planes = page.bands if page.one(_PLANAR, 1) == 2 else 1
    bands = page.bands // planes
    image = np.zeros((planes, page.height, page.width, bands), page.dtype.newbyteorder("="))
    for (plane, top, left, height, width), part in _parts(page, data, planes):
        block = _values(page, part, height, width, bands)
        room = image[plane, top : top + height, left : left + width]
        room[...] = block[: room.shape[0], : room.shape[1]]
    return np.concatenate(list(image), axis=2)


def _parts(
    page: Page, data: Any, planes: int
) -> Iterator[tuple[tuple[int, int, int, int, int], bytes]]:
    """Yield plane, top, left, height, width and bytes of every strip or tile."""
    tiled = _TILES in page.tags
    height = page.one(_TILE_HEIGHT if tiled else _ROWS, page.height)
    width = page.one(_TILE_WIDTH, page.width) if tiled else page.width
    offsets, counts = (
        page.tags.get(_TILES if tiled else _STRIPS),
        page.tags.get(_TILE_BYTES if tiled else _STRIP_BYTES),
    )
    if not offsets or not counts or height < 1 or width < 1:
        raise ValueError("it does not say where its values are")
    height = height if tiled else min(height, page.height)
    corners = [
        (plane, top, left)
        for plane in range(planes)
        for top in range(0, page.height, height)
        for left in range(0, page.width, width)
    ]
    if len(offsets) < len(corners) or len(counts) < len(corners):
        raise ValueError("some of its values are not there")
    for (plane, top, left), offset, count in zip(corners, offsets, counts):
        rows = height if tiled else min(height, page.height - top)
        yield (plane, top, left, rows, width), data[offset : offset + count]


def _values(page: Page, part: bytes, height: int, width: int, bands: int) -> np.ndarray:
    """Return [height, width, bands] of a strip or tile."""
    size = height * width * bands * page.dtype.itemsize
    raw = _decompress(page.one(_COMPRESSION, _NONE), part, height, size // height)
    if len(raw) < size:
        raise ValueError("some of its values are not there")
    predictor = page.one(_PREDICTOR, 1)
    if predictor == 3:  # of floats: bytes of one place together, differences along the row
        differences = np.frombuffer(raw, np.uint8, size).reshape(height, -1, bands)
        sums = np.cumsum(differences, axis=1, dtype=np.uint8)
        places = sums.reshape(height, page.dtype.itemsize, -1)
        joined = np.ascontiguousarray(places.transpose(0, 2, 1))
        values: Any = joined.view(page.dtype.newbyteorder(">"))
        return values.reshape(height, width, bands)
    values = np.frombuffer(raw, page.dtype, height * width * bands).reshape(height, width, bands)
    if predictor == 2:
        native = values.astype(page.dtype.newbyteorder("="))
        return np.cumsum(native, axis=1, dtype=native.dtype)
    return values


def _decompress(compression: int, part: bytes, rows: int, row_bytes: int) -> bytes:
    if compression == _NONE:
        return part
    if compression in _DEFLATE:
        try:
            return zlib.decompressobj().decompress(part, rows * row_bytes)
        except zlib.error as error:
            raise ValueError(str(error)) from error
    # To libtiff, which OpenCV has: a grey picture with a pixel for every byte.
    entries = [
        (_WIDTH, row_bytes), (_HEIGHT, rows), (_BITS, 8), (_COMPRESSION, compression),
        (_PHOTOMETRIC, 1), (_STRIPS, 8), (_SAMPLES, 1), (_ROWS, rows), (_STRIP_BYTES, len(part)),
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    even = part + b"\0" * (len(part) % 2)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(even))
    file = head + even + struct.pack("<H", len(entries)) + directory + b"\0" * 4
    decoded = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise ValueError(f"its compression {compression} can't be undone here")
    return decoded.tobytes()
