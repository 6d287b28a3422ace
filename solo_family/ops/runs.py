"""Masks of a large image as runs of pixels down its columns, as COCO's RLE has them.

A pixel is a number: x (H + 1) + y. The unused number at the end of each column keeps runs apart
that end at its bottom and begin at the next one's top. A mask is a sorted sequence of runs that do
not touch, so that comparing two masks takes time and memory in proportion to their runs.

N masks; R runs of a mask, or of all; H W of the image; h w of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from .run_lengths import run_lengths
from .window import Window


class Runs(NamedTuple):
    """One mask.

    Attributes:
        starts: int64 [R], the first pixel of each run, ascending.
        stops: int64 [R], the one after its last.
    """

    starts: np.ndarray
    stops: np.ndarray

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int((self.stops - self.starts).sum())


def runs_of(masks: Tensor, window: Window, height: int) -> list[Runs]:
    """Return the runs of masks of a window, in pixels of the image.

    Args:
        masks: bool [N, h, w], on any device; only their run lengths are copied from a GPU.
        window: where they are.
        height: H.
    """
    lengths, counts = (tensor.numpy() for tensor in run_lengths(masks))
    ends = lengths.cumsum()
    last = counts.cumsum()
    rows, pixels = masks.shape[1], masks.shape[1] * masks.shape[2]
    found = []
    for number, (begin, end) in enumerate(zip(last - counts, last)):
        edges = ends[begin:end] - number * pixels
        # Runs of 0 and 1 take turns.
        starts, stops = edges[0::2][: len(edges) // 2], edges[1::2]
        found.append(_in_image(*_split(starts, stops, rows), rows, window, height))
    return found


def _split(starts: np.ndarray, stops: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut the runs of a window, whose pixels are x h + y, where a column ends."""
    first, last = starts // rows, (stops - 1) // rows
    counts = last - first + 1
    if (counts == 1).all():
        return starts, stops
    run = np.repeat(np.arange(len(starts)), counts)
    column = first[run] + np.arange(len(run)) - np.repeat(counts.cumsum() - counts, counts)
    return np.maximum(starts[run], column * rows), np.minimum(stops[run], (column + 1) * rows)


def _in_image(
    starts: np.ndarray, stops: np.ndarray, rows: int, window: Window, height: int
) -> Runs:
    column, row = np.divmod(starts, rows)
    starts_there = (column + window.left) * (height + 1) + row + window.top
    return Runs(starts_there, starts_there + stops - starts)


def moved(runs: Runs, rows: int, window: Window, height: int) -> Runs:
    """Return a mask of a window in pixels of the image.

    Args:
        runs: in the window's own pixels.
        rows: h.
        window: where it is in the image.
        height: H.
    """
    column, row = np.divmod(runs.starts, rows + 1)
    starts = (column + window.left) * (height + 1) + row + window.top
    return Runs(starts, starts + runs.stops - runs.starts)


def box_of(runs: Runs, height: int) -> Window:
    """Return the smallest window around a mask; an empty one for no pixel."""
    if not len(runs.starts):
        return Window(0, 0, 0, 0)
    columns, tops = np.divmod(runs.starts, height + 1)
    bottoms = tops + runs.stops - runs.starts
    return Window(int(tops.min()), int(columns[0]), int(bottoms.max()), int(columns[-1]) + 1)


def joined(masks: Sequence[Runs]) -> tuple[Runs, np.ndarray]:
    """Return the runs of all masks, one mask after another, and where each one's end: int64 [N]."""
    none = np.zeros(0, np.int64)
    starts = np.concatenate([none, *(mask.starts for mask in masks)])
    stops = np.concatenate([none, *(mask.stops for mask in masks)])
    return Runs(starts, stops), np.array([len(mask.starts) for mask in masks], np.int64).cumsum()


def split(runs: Runs, ends: np.ndarray) -> list[Runs]:
    """Return the masks of which `joined` has made these runs and ends."""
    every = ends.tolist()
    return [Runs(runs.starts[a:b], runs.stops[a:b]) for a, b in zip([0, *every], every)]


def boxes_and_areas(runs: Runs, ends: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows around masks, and their numbers of pixels; 0 for no pixel.

    Args:
        runs: of all masks; see `joined`.
        ends: int64 [N].
        height: H.

    Returns:
        boxes: int64 [N, 4], as of `Window`.
        areas: int64 [N].
    """
    boxes, areas = np.zeros((len(ends), 4), np.int64), np.zeros(len(ends), np.int64)
    firsts = np.concatenate([[0], ends])[:-1]
    there = ends > firsts
    if there.any():
        begins, lengths = firsts[there], runs.stops - runs.starts
        columns, tops = np.divmod(runs.starts, height + 1)
        boxes[there, 0] = np.minimum.reduceat(tops, begins)
        boxes[there, 1] = columns[begins]
        boxes[there, 2] = np.maximum.reduceat(tops + lengths, begins)
        boxes[there, 3] = columns[ends[there] - 1] + 1
        areas[there] = np.add.reduceat(lengths, begins)
    return boxes, areas


def clip(runs: Runs, window: Window, height: int) -> Runs:
    """Return the part of a mask that lies in a window."""
    first = np.searchsorted(runs.starts, window.left * (height + 1))
    stop = np.searchsorted(runs.starts, window.right * (height + 1))
    near = Runs(runs.starts[first:stop], runs.stops[first:stop])
    return clip_all(near, np.array([len(near.starts)]), window, height)[0]


def clip_all(runs: Runs, ends: np.ndarray, window: Window, height: int) -> tuple[Runs, np.ndarray]:
    """Return the parts of masks that lie in a window, as many masks; see `joined`."""
    column = runs.starts // (height + 1)
    starts = np.maximum(runs.starts, column * (height + 1) + window.top)
    stops = np.minimum(runs.stops, column * (height + 1) + window.bottom)
    kept = (starts < stops) & (window.left <= column) & (column < window.right)
    return Runs(starts[kept], stops[kept]), np.concatenate([[0], kept.cumsum()])[ends]


def union(parts: Sequence[Runs]) -> Runs:
    """Return the mask of all pixels that any of several masks has."""
    if len(parts) == 1:
        return parts[0]
    starts = np.concatenate([part.starts for part in parts])
    stops = np.concatenate([part.stops for part in parts])
    order = np.argsort(starts, kind="stable")
    return _without_touching(starts[order], stops[order])


def _without_touching(starts: np.ndarray, stops: np.ndarray) -> Runs:
    """Join the runs, sorted by their beginnings, that overlap or touch."""
    if not len(starts):
        return Runs(starts, stops)
    stops = np.maximum.accumulate(stops)
    begins = np.concatenate([[True], starts[1:] > stops[:-1]])
    ends = np.concatenate([begins[1:], [True]])
    return Runs(starts[begins], stops[ends])


def fill(runs: Runs, window: Window, height: int) -> np.ndarray:
    """Return the pixels of a mask in a window, bool [h, w]."""
    part = clip(runs, window, height)
    rows, columns = window.size
    column, row = np.divmod(part.starts, height + 1)
    starts = (column - window.left) * rows + row - window.top
    # +1 where a run begins, -1 after its end; the sums from the beginning are the pixels.
    steps = np.zeros(rows * columns + 1, np.int8)
    steps[starts] += 1
    steps[starts + part.stops - part.starts] -= 1
    return steps[:-1].cumsum(dtype=np.int8).view(bool).reshape(columns, rows).T


def coco_lengths(masks: Sequence[Runs], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lengths of the runs of 0, 1, 0, 1, ... of masks, as COCO counts them.

    Args:
        masks: N of them.
        size: (H, W).

    Returns:
        lengths: int64, of the first mask, then of the second, ...
        counts: int64 [N], how many of them each mask has.
    """
    height, pixels = size[0], size[0] * size[1]
    runs, ends = joined(masks)
    mask = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    # In COCO's count of pixels, x H + y, runs at the ends of columns may touch. Masks are one after
    # another, with a place between them, so that theirs do not.
    starts = runs.starts - runs.starts // (height + 1) + mask * (pixels + 1)
    whole = _without_touching(starts, starts + runs.stops - runs.starts)
    mask = whole.starts // (pixels + 1)
    # The edges of the runs of all masks, each mask's followed by its end.
    first = 2 * np.arange(len(mask)) + mask
    counts = 2 * np.bincount(mask, minlength=len(ends)) + 1
    last = counts.cumsum() - 1
    edges = np.zeros(len(ends) + 2 * len(mask), np.int64)
    edges[first], edges[first + 1] = whole.starts, whole.stops
    edges[last] = np.arange(len(ends)) * (pixels + 1) + pixels
    lengths = np.diff(edges, prepend=0)
    lengths[last[:-1] + 1] -= 1  # from the place between two masks to the second one's first pixel
    # A mask that has its last pixel ends with a run of 1.
    kept = np.ones(len(lengths), bool)
    kept[last] = (lengths[last] > 0) | (counts == 1)
    return lengths[kept], counts - ~kept[last]
