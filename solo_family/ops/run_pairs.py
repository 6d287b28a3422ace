"""Count the pixels that pairs of masks share, from their runs.

N, M masks; P pairs of them.
"""

from __future__ import annotations

import numpy as np

from .runs import Runs


def pair_intersections(
    ours: tuple[Runs, np.ndarray],
    theirs: tuple[Runs, np.ndarray],
    pairs: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Return the number of pixels that pairs of masks share, int64 [P].

    Args:
        ours: N masks; see `joined`.
        theirs: M others, of the same image.
        pairs: the indices of P of ours, and of P of theirs.
    """
    (a, a_ends), (b, b_ends) = ours, theirs
    if not len(pairs[0]) or not len(a.starts) or not len(b.starts):
        return np.zeros(len(pairs[0]), np.int64)
    # Each mask of ours is moved behind the one before it, and the runs of each partner with it.
    step = int(max(a.stops.max(), b.stops.max())) + 1
    moves = step * np.arange(len(a_ends))
    every = Runs(*(part + np.repeat(moves, np.diff(a_ends, prepend=0)) for part in a))
    first, last = np.concatenate([[0], b_ends])[pairs[1]], b_ends[pairs[1]]
    sizes = last - first
    ends = sizes.cumsum()
    runs = np.arange(ends[-1]) + np.repeat(first - (ends - sizes), sizes)
    offsets = np.repeat(moves[pairs[0]], sizes)
    shared = _pixels_before(every, b.stops[runs] + offsets)
    shared -= _pixels_before(every, b.starts[runs] + offsets)
    before = np.concatenate([[0], shared.cumsum()])
    return before[ends] - before[ends - sizes]


def _pixels_before(runs: Runs, pixels: np.ndarray) -> np.ndarray:
    """Return, for each of some pixels, how many of a mask's are before it."""
    if not len(runs.starts):
        return np.zeros(len(pixels), np.int64)
    before = np.concatenate([[0], (runs.stops - runs.starts).cumsum()])
    run = np.searchsorted(runs.starts, pixels, side="right")
    # Of the last run that begins before it, what it has from there on does not count.
    beyond = np.where(run > 0, np.maximum(runs.stops[run - 1] - pixels, 0), 0)
    return before[run] - beyond
