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
from .runs import Runs, split
from .window import Window

Size = tuple[int, int]

# Pixels of the crops of which runs are found at a time.
_PIXELS_AT_ONCE = 2**22


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
    masks: list[Runs] = []
    waiting: list[Crop] = []
    pixels = 0
    for crop in crops:
        waiting.append(crop)
        pixels += crop.pixels.size
        if pixels > _PIXELS_AT_ONCE:
            masks += _runs(waiting, size[0])
            waiting, pixels = [], 0
    return RunMasks(masks + _runs(waiting, size[0]), size)


def _runs(crops: list[Crop], height: int) -> list[Runs]:
    """Return the runs of some masks, found in all of them at once."""
    windows = np.array([crop.window for crop in crops], np.int64).reshape(-1, 4)
    tops, lefts, bottoms, rights = windows.T
    # Each column of each crop is followed by a pixel that is not set, in which its last run ends.
    lengths = bottoms - tops + 1
    edges = np.concatenate([[0], (lengths * (rights - lefts)).cumsum()])
    pixels = np.zeros(1 + edges[-1], bool)
    for crop, length, begin, end in zip(crops, lengths.tolist(), edges[:-1], edges[1:]):
        pixels[1 + begin : 1 + end].reshape(-1, length)[:, :-1] = crop.pixels.T
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    starts, stops = changes[0::2], changes[1::2]
    which = np.searchsorted(edges, starts, side="right") - 1
    column, row = np.divmod(starts - edges[which], lengths[which])
    begins = (column + lefts[which]) * (height + 1) + row + tops[which]
    ends = np.bincount(which, minlength=len(crops)).cumsum()
    return split(Runs(begins, begins + stops - starts), ends)
