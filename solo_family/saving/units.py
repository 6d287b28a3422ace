"""Sizes of pixels in physical units."""

import re
from dataclasses import dataclass

from ..errors import ConfigError

_UNITS = ("nm", "um", "mm", "cm", "m", "km")


@dataclass(frozen=True)
class PixelSize:
    """The length of a pixel's side.

    Attributes:
        length: in `unit`.
        unit: nm, um, mm, cm, m or km.
    """

    length: float
    unit: str

    @property
    def key(self) -> str:
        """The name of areas in files, for instance "area_um2"."""
        return f"area_{self.unit}2"

    def area(self, pixels: float) -> float:
        """Return the area of pixels in square units."""
        return pixels * self.length**2


def parse_pixel_size(text: str) -> PixelSize:
    """Read a length such as "0.25um" or "30 m".

    Raises:
        ConfigError: it is not a positive number with a known unit.
    """
    found = re.fullmatch(r"\s*([\d.]+(?:[eE][+-]?\d+)?)\s*([a-zA-Zµμ]+)\s*", text)
    unit = re.sub("[µμ]", "u", found[2]) if found else ""
    try:
        length = float(found[1]) if found else 0.0
    except ValueError:
        length = 0.0
    if unit not in _UNITS or not 0 < length < float("inf"):
        raise ConfigError(
            f"--pixel-size is {text!r}; write a positive number and one of {', '.join(_UNITS)}, "
            "for instance 0.25um."
        )
    return PixelSize(length, unit)
