"""Masks as the parts of the image that they reach, which for most are small.

N masks; H W of the image; h w of a part of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .run_masks import RunMasks
from .runs import Runs, runs_of
from .window import Window

Size = tuple[int, int]


class Crop(NamedTuple):
    """A mask that has no pixels beyond a window.

    Attributes:
        window: a part of the image.
        pixels: bool [h, w].
    """

    window: Window
    pixels: np.ndarray


def bools_of_crops(crops: Iterable[Crop], count: int, size: Size) -> tuple[Tensor, Tensor]:
    """Return masks as bools, and their boxes.

    Args:
        crops: the masks.
        count: N.
        size: (H, W).

    Returns:
        masks: bool [N, H, W].
        boxes: float32 [N, 4], tight around these, see `mask_boxes`.
    """
    # The system gives numpy zeros where they are written or read; torch writes all of them at once,
    # though masks cover a small part of them.
    masks = np.zeros((count, *size), bool)
    boxes = np.zeros((count, 4), np.float32)
    for index, ((top, left, bottom, right), pixels) in enumerate(crops):
        masks[index, top:bottom, left:right] = pixels
        ys, xs = (np.flatnonzero(pixels.any(axis)) for axis in (1, 0))
        if len(ys):  # the box of a mask without pixels is 0
            boxes[index] = (left + xs[0], top + ys[0], left + xs[-1] + 1, top + ys[-1] + 1)
    return torch.from_numpy(masks), torch.from_numpy(boxes)


def runs_of_crops(crops: Iterable[Crop], size: Size) -> RunMasks:
    """Return masks as runs.

    Args:
        crops: the masks.
        size: (H, W).
    """
    return RunMasks([_runs(crop, size[0]) for crop in crops], size)


def _runs(crop: Crop, height: int) -> Runs:
    (runs,) = runs_of(
        torch.from_numpy(np.ascontiguousarray(crop.pixels))[None], crop.window, height
    )
    return runs
