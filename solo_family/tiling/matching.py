"""Find the objects that two overlapping tiles both see, by what the tiles share alone.

Within the overlap both tiles have the same pixels, so that one object's two masks agree there,
however large it is and whatever the tiles' borders cut off.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..ops.run_pairs import pair_intersections
from ..ops.runs import Runs, boxes_and_areas, clip_all, joined
from ..ops.window import Window

# From this IoU on, two masks are one object's; and from this share of the smaller one on, a mask
# that has no such partner is a piece of the larger one.
SAME = 0.5
# Parts of one object are joined if none scores more than this many times as much as the other: the
# shape of a mask with a very low score would spoil a good one.
ALIKE = 4
# Pairs whose boxes are compared at a time.
_PAIRS_AT_ONCE = 2**18


@dataclass(frozen=True)
class TileObject:
    """An object as one tile sees it.

    Attributes:
        tile: the tile's index.
        runs: its mask, in pixels of the image.
        box: the smallest window around it.
        area: its number of pixels, at least 1.
        score: 0 to 1.
        label: its class.
        is_cut: whether it touches a border of the tile that is within the image.
    """

    tile: int
    runs: Runs
    box: Window
    area: int
    score: float
    label: int
    is_cut: bool = False

    @property
    def rank(self) -> tuple[float, ...]:
        """What orders the objects of an image, the best first, whatever order they came in."""
        return (-self.score, -self.area, *self.box, self.label, self.tile)


@dataclass(frozen=True)
class Link:
    """Two masks of one object.

    Attributes:
        better: the index of the one that shows more of it, or shows it better.
        other: the index of the other.
        joins: whether each shows a part that the other one's tile does not have.
    """

    better: int
    other: int
    joins: bool = False


class TileMasks(NamedTuple):
    """The objects of one tile, M of them, in the order of their ranks.

    Attributes:
        indices: int64 [M], which of all tiles' objects they are.
        runs, ends: their masks; see `joined`.
        areas, labels: int64 [M].
    """

    indices: np.ndarray
    runs: Runs
    ends: np.ndarray
    areas: np.ndarray
    labels: np.ndarray


def masks_of_tile(objects: Sequence[TileObject], indices: Sequence[int]) -> TileMasks:
    """Return some of the objects of all tiles, those of one tile."""
    found = [objects[index] for index in indices]
    areas, labels = np.array([(one.area, one.label) for one in found]).T
    return TileMasks(np.array(indices), *joined([one.runs for one in found]), areas, labels)


class _Seen(NamedTuple):
    """The part of an object, of a number among all tiles', that lies in the overlap."""

    number: int
    area: int
    leaves: bool
    whole: TileObject

    def yields_to(self, other: "_Seen") -> bool:
        """Return whether the other one, which shows more of the object, is to be kept.

        A piece that a border cuts off may score more than the whole object, but not twice as much.
        """
        limit = 2 * other.whole.score if self.whole.is_cut else other.whole.score
        return self.whole.score <= limit


class _Parts(NamedTuple):
    """The parts of a tile's objects that lie in the overlap, Q of them.

    Attributes:
        seen: Q of them.
        runs, ends: their masks; see `joined`.
        boxes: int64 [Q, 4].
        areas, labels: int64 [Q].
    """

    seen: list[_Seen]
    runs: Runs
    ends: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    labels: np.ndarray


class _Overlaps(NamedTuple):
    """P pairs of parts that share pixels.

    Attributes:
        ours, theirs: int64 [P], places of the parts.
        common: int64 [P], the numbers of pixels that they share.
        our_areas, their_areas: int64 [P], of the parts.
    """

    ours: np.ndarray
    theirs: np.ndarray
    common: np.ndarray
    our_areas: np.ndarray
    their_areas: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        return self.common / (self.our_areas + self.their_areas - self.common)

    @property
    def containment(self) -> np.ndarray:
        """The share of the smaller part that the larger one has, too."""
        return self.common / np.minimum(self.our_areas, self.their_areas)


def link(
    objects: Sequence[TileObject],
    first: TileMasks,
    second: TileMasks,
    shared: Window,
    height: int,
) -> list[Link]:
    """Link the masks of two tiles that are of one object.

    Masks of one class with the greatest IoU in the overlap are paired first, each once. A mask
    that has no partner then is a piece of the one that contains most of it, unless it scores more.

    Args:
        objects: of all tiles.
        first: those of the one tile.
        second: those of the other.
        shared: what both tiles have.
        height: of the image.
    """
    parts = [_parts(objects, tile, shared, height) for tile in (first, second)]
    ours, theirs = (part.seen for part in parts)
    if not (ours and theirs):
        return []
    overlaps = _overlaps(*parts)
    linked: set[int] = set()
    links = []
    for i, j in _descending(overlaps, overlaps.iou):
        a, b = ours[i], theirs[j]
        if a.number not in linked and b.number not in linked:
            linked |= {a.number, b.number}
            links.append(_link(a, b))
    for i, j in _descending(overlaps, overlaps.containment):
        smaller, larger = sorted((ours[i], theirs[j]), key=lambda part: part.area)
        if smaller.number not in linked and smaller.yields_to(larger):
            linked.add(smaller.number)
            links.append(Link(larger.number, smaller.number))
    return links


def _parts(objects: Sequence[TileObject], tile: TileMasks, shared: Window, height: int) -> _Parts:
    """Return the parts of a tile's objects in the overlap, of those that have one."""
    runs, ends = clip_all(tile.runs, tile.ends, shared, height)
    boxes, areas = boxes_and_areas(runs, ends, height)
    there = np.flatnonzero(areas)
    of_each = tile.indices[there], areas[there], areas[there] < tile.areas[there]
    seen = [
        _Seen(number, area, leaves, objects[number])
        for number, area, leaves in zip(*(values.tolist() for values in of_each))
    ]
    return _Parts(seen, runs, ends[there], boxes[there], areas[there], tile.labels[there])


def _overlaps(ours: _Parts, theirs: _Parts) -> _Overlaps:
    """Return all pairs of one class of which one part has at least `SAME` of the smaller one."""
    i, j = _near(ours, theirs)
    common = pair_intersections((ours.runs, ours.ends), (theirs.runs, theirs.ends), (i, j))
    enough = common >= SAME * np.minimum(ours.areas[i], theirs.areas[j])
    i, j = i[enough], j[enough]
    return _Overlaps(i, j, common[enough], ours.areas[i], theirs.areas[j])


def _near(ours: _Parts, theirs: _Parts) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs, int64 [P] and [P], of which `_overlaps` can be true by their boxes."""
    top, left, bottom, right = theirs.boxes.T
    pairs = [np.zeros((2, 0), np.int64)]
    step = max(1, _PAIRS_AT_ONCE // len(theirs.seen))
    for start in range(0, len(ours.seen), step):
        some = slice(start, start + step)
        tops, lefts, bottoms, rights = ours.boxes[some].T[..., None]
        # Masks share no more than their boxes do.
        most = (np.minimum(bottoms, bottom) - np.maximum(tops, top)).clip(min=0)
        most *= (np.minimum(rights, right) - np.maximum(lefts, left)).clip(min=0)
        least = SAME * np.minimum(ours.areas[some, None], theirs.areas)
        near = (most > 0) & (most >= least) & (ours.labels[some, None] == theirs.labels)
        pairs.append(np.stack(near.nonzero()) + np.array([[start], [0]]))
    i, j = np.concatenate(pairs, axis=1)
    return i, j


def _link(one: _Seen, other: _Seen) -> Link:
    """Return the link of two masks that agree in the overlap."""
    a, b = sorted((one, other), key=lambda part: part.number)  # the better rank first
    low, high = sorted((a.whole.score, b.whole.score))
    if a.leaves and b.leaves and high <= ALIKE * low:
        return Link(a.number, b.number, joins=True)
    if b.leaves and not a.leaves and a.yields_to(b):
        return Link(b.number, a.number)
    return Link(a.number, b.number)


def _descending(overlaps: _Overlaps, values: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the pairs whose value is at least `SAME`, the greatest first, else in order."""
    order = np.argsort(-values, kind="stable")
    order = order[values[order] >= SAME]
    return zip(overlaps.ours[order].tolist(), overlaps.theirs[order].tolist())
