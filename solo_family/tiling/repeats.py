"""Drop what is left of an object beside its better mask, once the masks of all tiles are joined.

Where a model has several masks of one object in each of two tiles, the pairs of the best and of the
others are linked, and of each pair one stays: the best of one tile, and another of the other tile,
on top of each other.

N joined masks, P pairs of them.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ..ops.run_pairs import pair_intersections
from ..ops.runs import Runs, boxes_and_areas, joined
from .matching import TileObject

# A mask repeats a better one that has this share of it; one that contains a better one stays.
COVERED = 0.7
# Pairs of masks that are looked at at a time, most of which are far from each other.
_PAIRS_AT_ONCE = 2**14


def without_repeats(
    groups: Sequence[Sequence[int]],
    masks: Sequence[Runs],
    objects: Sequence[TileObject],
    height: int,
) -> list[int]:
    """Return the indices of the joined masks that repeat no better one of their class.

    Two masks that stay from one tile are two objects: the method's own suppression has kept both.

    Args:
        groups: which of `objects` each joined mask consists of, the best score first.
        masks: the joined masks, the best first.
        objects: of all tiles.
        height: of the image.
    """
    seen_by = [frozenset(objects[index].tile for index in group) for group in groups]
    labels = np.array([objects[group[0]].label for group in groups])
    boxes, areas = boxes_and_areas(*joined(masks), height)
    covering: list[list[int]] = []
    for pairs in _near(boxes):
        pairs = pairs[:, labels[pairs[0]] == labels[pairs[1]]]
        apart = [seen_by[a].isdisjoint(seen_by[b]) for a, b in pairs.T.tolist()]
        covering += _covering(masks, areas, pairs[:, np.array(apart, bool)]).T.tolist()
    stays = [True] * len(masks)
    for better, worse in sorted(covering):
        stays[worse] &= not stays[better]
    return np.flatnonzero(stays).tolist()


def _covering(masks: Sequence[Runs], areas: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the pairs, int64 [2, P], of which the first mask has `COVERED` of the second."""
    places, numbers = np.unique(pairs, return_inverse=True)
    some = joined([masks[place] for place in places.tolist()])
    i, j = numbers.reshape(2, -1)
    return pairs[:, pair_intersections(some, some, (i, j)) >= COVERED * areas[pairs[1]]]


def _near(boxes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield all pairs whose boxes overlap, a few at a time: int64 [2, P], the smaller index first.

    Args:
        boxes: int64 [N, 4], as of `Window`, none of them empty.
    """
    if not len(boxes):
        return
    # In the order of where they begin, along the image's longer axis, a box overlaps there with
    # those after it that begin before it ends.
    along = int(np.ptp(boxes[:, :2], axis=0).argmax())
    order = np.argsort(boxes[:, along], kind="stable")
    begins, ends = boxes[order, along], boxes[order, along + 2]
    place = np.arange(len(boxes))
    counts = np.searchsorted(begins, ends) - place - 1
    before = counts.cumsum() - counts
    for some in np.split(place, np.flatnonzero(np.diff(before // _PAIRS_AT_ONCE)) + 1):
        first = np.repeat(some, counts[some])
        number = np.arange(len(first)) - np.repeat(before[some] - before[some[0]], counts[some])
        second = first + 1 + number  # the next one, the one after it, ...
        a, b = order[first], order[second]
        across = 1 - along
        overlap = (boxes[a, across] < boxes[b, across + 2]) & (
            boxes[b, across] < boxes[a, across + 2]
        )
        yield np.sort(np.stack([a[overlap], b[overlap]]), axis=0)
