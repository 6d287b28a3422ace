"""What `INPUT.FORMAT` says: how many channels a model has, and which of them are colours.

H W of a picture, C of its channels.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..errors import ConfigError, DataError

# Of the files that are taken for pictures in folders: all formats of photographs, scans and arrays
# that Pillow and OpenCV both read, so that exported models find what training finds.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    *(".gif", ".pbm", ".pgm", ".ppm", ".pnm", ".npy", ".npz"),
)
# Of those that viewers open, and in which results are written: a GIF has too few colours for masks.
WRITTEN = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
# The channels of these are made from any picture; those of other formats are the file's own.
COLOURS = ("RGB", "BGR")
CONVERTED = (*COLOURS, "L", "RGBA")
# The weights of ITU-R 601 in 16 bits, with which Pillow makes grey of red, green and blue.
_GREY = (19595, 38470, 7471)


class OtherChannels(DataError):
    """A file has another number of channels than the model."""


@dataclass(frozen=True)
class Format:
    """A value of `INPUT.FORMAT`.

    Attributes:
        name: as it stands there.
        count: C.
        colours: the places of red, green and blue; None where none has that name.
    """

    name: str
    count: int
    colours: tuple[int, int, int] | None

    @property
    def is_converted(self) -> bool:
        """Whether any picture has these channels, or gets them."""
        return self.name in CONVERTED

    @property
    def drops_alpha(self) -> bool:
        """Whether transparency is left out of pictures that have it."""
        return self.is_converted and self.name != "RGBA"

    @property
    def working(self) -> "Format":
        """The format that pictures have between file and model: colours are BGR, as in OpenCV."""
        return parse_format("BGR") if self.name in COLOURS else self

    def shown(self, bands: Sequence[int] = ()) -> tuple[int, ...]:
        """Return the places of the channels that are drawn as red, green and blue.

        Args:
            bands: `INPUT.BANDS`, counted from 1; () are the colours, or else the first three.
        """
        if bands:
            return tuple(band - 1 for band in bands)
        return self.colours or tuple(range(3 if self.count > 2 else 1))


@cache
def parse_format(name: str) -> Format:
    """Return what a value of `INPUT.FORMAT` means.

    Raises:
        ConfigError: it is none; says what is allowed.
    """
    if re.fullmatch("[1-9][0-9]{0,2}ch", name):
        return Format(name, int(name.removesuffix("ch")), None)
    if name == "L":
        return Format(name, 1, None)
    colours = next((place for order in COLOURS if (place := name.find(order)) >= 0), -1)
    distinct = len(set(name)) == len(name) and re.fullmatch("[A-Z]+", name)
    mixed = set(name) == set("RGBA") and name != "RGBA"
    if colours < 0 or not distinct or mixed:
        raise ConfigError(
            f"INPUT.FORMAT is {name!r}; allowed: RGB, BGR, L (grey), RGBA, a number of channels, "
            "for instance 5ch, or a letter for each of four or more channels in the files' order, "
            "with RGB or BGR among them, for instance RGBN."
        )
    red, green, blue = (name.index(letter) for letter in "RGB")
    return Format(name, len(name), (red, green, blue))


def in_format(path: str, stored: np.ndarray, wanted: Format) -> np.ndarray:
    """Return a file's channels in a format.

    Args:
        path: named in errors.
        stored: uint8 [H, W, C], as the file has them; of colours red first.
        wanted: the format.

    Raises:
        OtherChannels: the file has more or fewer channels than this can be made of.
    """
    there = stored.shape[2]
    check_channels(path, there, wanted)
    if not wanted.is_converted:
        return np.array(stored, order="C")  # a copy, which torch may write to
    if wanted.name == "L":
        return stored.copy() if there == 1 else grey(stored)
    alpha = stored[:, :, 3:] if there == 4 else np.full_like(stored[:, :, :1], 255)
    colours = np.repeat(stored, 3, axis=2) if there == 1 else stored[:, :, :3]
    if wanted.name == "RGBA":
        return np.concatenate([colours, alpha], axis=2)
    return np.array(colours if wanted.name == "RGB" else colours[:, :, ::-1], order="C")


def check_channels(path: str, there: int, wanted: Format) -> None:
    """Refuse a file of which a format can't be made; see `in_format`.

    Raises:
        OtherChannels: names both, and what to set.
    """
    taken = {"RGBA": (1, 3, 4)}.get(wanted.name, (1, 3) if wanted.is_converted else (wanted.count,))
    if there not in taken:
        fitting = {1: "L", 3: "RGB"}.get(there, f"{there}ch")
        channels = "1 channel" if there == 1 else f"{there} channels"
        raise OtherChannels(
            f"{path} has {channels}, but INPUT.FORMAT {wanted.name} is of {wanted.count}. Set "
            f"INPUT.FORMAT {fitting} if all files are so, or leave the file out."
        )


def grey(colours: np.ndarray) -> np.ndarray:
    """Return uint8 [H, W, 1] of red, green and blue, uint8 [H, W, 3], to Pillow's very numbers."""
    total = colours.astype(np.uint32) @ np.array(_GREY, np.uint32) + 0x8000
    return (total >> 16).astype(np.uint8)[:, :, None]


def frame_in_format(frame: np.ndarray, wanted: Format) -> np.ndarray:
    """Return a video's frame, uint8 [H, W, 3] in BGR, in a working format.

    Raises:
        OtherChannels: the model has channels that a video lacks.
    """
    if wanted.name == "BGR":
        return frame
    return in_format("A frame of a video", np.ascontiguousarray(frame[:, :, ::-1]), wanted)


def to_picture(image: np.ndarray, given: Format, bands: Sequence[int] = ()) -> np.ndarray:
    """Return an image as a picture to draw on.

    Args:
        image: uint8 [H, W, C].
        given: its format.
        bands: see `Format.shown`.

    Returns:
        uint8 [H, W, 3], BGR; the image itself if it is that.
    """
    if given.name == "BGR" and not bands:
        return image
    places = given.shown(bands)
    return np.ascontiguousarray(image[:, :, [places[0]] * 3 if len(places) == 1 else places[::-1]])
