"""Values of more than 8 bits, or fractions, become 0 to 255 by a stated range.

H W of a picture, C of its channels.
"""

import numpy as np

from ..errors import DataError

# The ranges that files deeper than 8 bits mostly have.
_RANGES = (255, 1023, 4095, 16383, 65535)


class UntoldRange(DataError):
    """A file's values may be of any range.

    Args:
        values: from which to which they are.
        message: complete.
    """

    def __init__(self, values: str, message: str) -> None:
        super().__init__(message)
        self.values = values


def to_8_bits(path: str, values: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """Return the values of a file as uint8, of the same shape.

    Args:
        path: named in errors.
        values: numbers of any type; uint8 is returned as it is.
        value_range: what becomes 0 and 255; None takes 0 to 65535 of files that fill 16 bits and
            0 to 1 of fractions.

    Raises:
        UntoldRange: no range is given, and the values may be of any.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    low, high = value_range or infer_range(path, values)
    if (low, high) == (0, 65535):
        return (values // 257).clip(0, 255).astype(np.uint8)
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.nan_to_num(scaled).round().clip(0, 255).astype(np.uint8)


def fills_16_bits(values: np.ndarray) -> bool:
    """Tell whether whole numbers can be of no smaller range than 0 to 65535."""
    least, most = (int(values.min()), int(values.max())) if values.size else (0, 0)
    return least >= 0 and (most == 0 or _RANGES[-2] < most <= _RANGES[-1])


def likely_top(least: float, most: float) -> int | None:
    """Return the white of the smallest usual range that values fit into; None for none."""
    return next((top for top in _RANGES if least >= 0 and most <= top), None)


def infer_range(path: str, values: np.ndarray) -> tuple[float, float]:
    """Return the range that values must have.

    Args:
        path: named in errors.
        values: all of a file, or its least and greatest.

    Raises:
        UntoldRange: several ranges are possible.
    """
    least, most = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if values.dtype.kind == "f":
        if least >= 0 and most <= 1:
            return 0, 1
    elif fills_16_bits(values):
        return 0, _RANGES[-1]
    likely = likely_top(least, most)
    suggested = f"(0, {likely})" if likely else f"({least:g}, {most:g})"
    raise UntoldRange(
        f"{least:g} to {most:g}",
        f"{path} has values from {least:g} to {most:g}, in {values.dtype.itemsize * 8} bits. Their "
        "range can't be inferred, and a wrong one makes images black or white. Set INPUT.RANGE to "
        f'the values that are black and white in all files, for instance INPUT.RANGE "{suggested}"',
    )
