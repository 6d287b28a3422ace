"""Find the objects that two overlapping tiles both see, by what the tiles share alone.

Within the overlap both tiles have the same pixels, so that one object's two masks agree there,
however large it is and whatever the tiles' borders cut off.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..ops.runs import Runs, box_of, clip, pair_intersections
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


@dataclass(frozen=True)
class _Seen:
    """The part of an object that lies in the overlap."""

    index: int
    runs: Runs
    box: Window
    area: int
    leaves: bool
    whole: TileObject

    @property
    def label(self) -> int:
        return self.whole.label

    def yields_to(self, other: "_Seen") -> bool:
        """Return whether the other one, which shows more of the object, is to be kept.

        A piece that a border cuts off may score more than the whole object, but not twice as much.
        """
        limit = 2 * other.whole.score if self.whole.is_cut else other.whole.score
        return self.whole.score <= limit


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
    first: Sequence[int],
    second: Sequence[int],
    shared: Window,
    height: int,
) -> list[Link]:
    """Link the masks of two tiles that are of one object.

    Masks of one class with the greatest IoU in the overlap are paired first, each once. A mask
    that has no partner then is a piece of the one that contains most of it, unless it scores more.

    Args:
        objects: of all tiles.
        first: the indices of those of the one tile, in the order of their ranks.
        second: the indices of those of the other.
        shared: what both tiles have.
        height: of the image.
    """
    ours, theirs = (_seen(objects, tile, shared, height) for tile in (first, second))
    if not (ours and theirs):
        return []
    overlaps = _overlaps(ours, theirs)
    linked: set[int] = set()
    links = []
    for i, j in _descending(overlaps, overlaps.iou):
        a, b = ours[i], theirs[j]
        if a.index not in linked and b.index not in linked:
            linked |= {a.index, b.index}
            links.append(_link(a, b))
    for i, j in _descending(overlaps, overlaps.containment):
        smaller, larger = sorted((ours[i], theirs[j]), key=lambda part: part.area)
        if smaller.index not in linked and smaller.yields_to(larger):
            linked.add(smaller.index)
            links.append(Link(larger.index, smaller.index))
    return links


def _seen(
    objects: Sequence[TileObject], indices: Sequence[int], shared: Window, height: int
) -> list[_Seen]:
    """Return the parts of objects in the overlap, of those that have one."""
    boxes = np.array([objects[index].box for index in indices])
    near = (boxes[:, :2] < shared[2:]) & (boxes[:, 2:] > shared[:2])
    within = (boxes[:, :2] >= shared[:2]) & (boxes[:, 2:] <= shared[2:])
    parts = []
    for place in np.flatnonzero(near.all(axis=1)).tolist():
        found = objects[indices[place]]
        if within[place].all():
            parts.append(_Seen(indices[place], found.runs, found.box, found.area, False, found))
            continue
        runs = clip(found.runs, shared, height)
        area = runs.area
        if area:
            box = box_of(runs, height)
            parts.append(_Seen(indices[place], runs, box, area, area < found.area, found))
    return parts


def _overlaps(ours: list[_Seen], theirs: list[_Seen]) -> _Overlaps:
    """Return all pairs of one class of which one part has at least `SAME` of the smaller one."""
    areas, their_areas = (np.array([part.area for part in parts]) for parts in (ours, theirs))
    i, j = _near(ours, theirs)
    common = pair_intersections([a.runs for a in ours], [b.runs for b in theirs], (i, j))
    enough = common >= SAME * np.minimum(areas[i], their_areas[j])
    i, j = i[enough], j[enough]
    return _Overlaps(i, j, common[enough], areas[i], their_areas[j])


def _near(ours: list[_Seen], theirs: list[_Seen]) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs, int64 [P] and [P], of which `_overlaps` can be true by their boxes."""
    others = np.array([part.box for part in theirs])
    areas, labels = np.array([(part.area, part.label) for part in theirs]).T
    pairs = [np.zeros((2, 0), np.int64)]
    step = max(1, _PAIRS_AT_ONCE // len(theirs))
    for start in range(0, len(ours), step):
        some = ours[start : start + step]
        boxes = np.array([part.box for part in some])[:, None]
        own_areas, own_labels = np.array([(part.area, part.label) for part in some]).T[..., None]
        sides = np.minimum(boxes, others)[..., 2:] - np.maximum(boxes, others)[..., :2]
        # Masks share no more than their boxes do.
        most = sides.clip(min=0).prod(axis=2)
        near = (own_labels == labels) & (most > 0) & (most >= SAME * np.minimum(own_areas, areas))
        pairs.append(np.stack(near.nonzero()) + np.array([[start], [0]]))
    i, j = np.concatenate(pairs, axis=1)
    return i, j


def _link(one: _Seen, other: _Seen) -> Link:
    """Return the link of two masks that agree in the overlap."""
    a, b = sorted((one, other), key=lambda part: part.index)  # the better rank first
    low, high = sorted((a.whole.score, b.whole.score))
    if a.leaves and b.leaves and high <= ALIKE * low:
        return Link(a.index, b.index, joins=True)
    if b.leaves and not a.leaves and a.yields_to(b):
        return Link(b.index, a.index)
    return Link(a.index, b.index)


def _descending(overlaps: _Overlaps, values: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the pairs whose value is at least `SAME`, the greatest first, else in order."""
    order = np.argsort(-values, kind="stable")
    order = order[values[order] >= SAME]
    return zip(overlaps.ours[order].tolist(), overlaps.theirs[order].tolist())
