"""Files of more channels and bits than pictures have; files/README.md says how they were made."""

from pathlib import Path

import numpy as np

FILES = Path(__file__).resolve().parent / "files"
HEIGHT, WIDTH = 37, 29


def scene(channels: int, dtype: type | str = np.uint8, factor: float = 1) -> np.ndarray:
    """Returns what the files hold: [37, 29, C] of values from 0 to 199, times a factor."""
    y, x, c = np.mgrid[:HEIGHT, :WIDTH, :channels]
    return ((7 * y + 3 * x + 50 * c) % 200 * factor).astype(dtype)
