"""Find the objects that two overlapping tiles both see, by what the tiles share alone.

Within the overlap both tiles have the same pixels, so that one object's two masks agree there,
however large it is and whatever the tiles' borders cut off.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.loading.windows import Window
from .runs import Runs, box_of, clip, intersections

# From this IoU on, two masks are one object's; and from this share of the smaller one on, a mask
# that has no such partner is a piece of the larger one.
SAME = 0.5


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
    """

    tile: int
    runs: Runs
    box: Window
    area: int
    score: float
    label: int

    @property
    def rank(self) -> tuple[float, ...]:
        """What orders the objects of an image, the best first, whatever order they came in."""
        return (-self.score, -self.area, *self.box, self.label, self.tile)


@dataclass(frozen=True)
class Link:
    """Two masks of one object, of which neither, one, or both leave the other's tile.

    Attributes:
        a: the index of the one.
        b: the index of the other.
        a_leaves: whether `a` has pixels outside the tile of `b`.
        b_leaves: whether `b` has pixels outside the tile of `a`.
    """

    a: int
    b: int
    a_leaves: bool
    b_leaves: bool


@dataclass(frozen=True)
class _Seen:
    """The part of an object that lies in the overlap."""

    index: int
    runs: Runs
    box: Window
    area: int
    leaves: bool
    label: int


@dataclass(frozen=True)
class _Overlap:
    """Two parts that share pixels, and how many."""

    a: _Seen
    b: _Seen
    common: int

    @property
    def iou(self) -> float:
        return self.common / (self.a.area + self.b.area - self.common)

    @property
    def containment(self) -> float:
        """The share of the smaller part that the larger one has, too."""
        return self.common / self.smaller.area

    @property
    def smaller(self) -> _Seen:
        return self.a if self.a.area <= self.b.area else self.b

    @property
    def link(self) -> Link:
        return Link(self.a.index, self.b.index, self.a.leaves, self.b.leaves)


def link(
    objects: Sequence[TileObject],
    first: Sequence[int],
    second: Sequence[int],
    shared: Window,
    height: int,
) -> list[Link]:
    """Link the masks of two tiles that are of one object.

    Masks of one class with the greatest IoU in the overlap are paired first, each once. A mask
    that has no partner then is linked to the one that contains most of it, or that it contains.

    Args:
        objects: of all tiles.
        first: the indices of those of the one tile, in the order of their ranks.
        second: the indices of those of the other.
        shared: what both tiles have.
        height: of the image.
    """
    overlaps = list(
        _overlaps(_seen(objects, first, shared, height), _seen(objects, second, shared, height))
    )
    linked: set[int] = set()
    links = []
    for overlap in _descending(overlaps, lambda overlap: overlap.iou):
        if overlap.a.index not in linked and overlap.b.index not in linked:
            linked |= {overlap.a.index, overlap.b.index}
            links.append(overlap.link)
    for overlap in _descending(overlaps, lambda overlap: overlap.containment):
        if overlap.smaller.index not in linked:
            linked.add(overlap.smaller.index)
            links.append(overlap.link)
    return links


def _seen(
    objects: Sequence[TileObject], indices: Sequence[int], shared: Window, height: int
) -> list[_Seen]:
    """Return the parts of objects in the overlap, of those that have one."""
    parts = []
    for index in indices:
        found = objects[index]
        if found.box.intersection(shared).is_empty:
            continue
        runs = clip(found.runs, shared, height)
        area = runs.area
        if area:
            box = box_of(runs, height)
            parts.append(_Seen(index, runs, box, area, area < found.area, found.label))
    return parts


def _overlaps(ours: list[_Seen], theirs: list[_Seen]) -> Iterator[_Overlap]:
    """Yield all pairs of one class that share pixels."""
    boxes = np.array([part.box for part in theirs]).reshape(-1, 4)
    labels = np.array([part.label for part in theirs])
    for a in ours:
        begins = np.maximum(boxes[:, :2], a.box[:2])
        ends = np.minimum(boxes[:, 2:], a.box[2:])
        near = (begins < ends).all(axis=1) & (labels == a.label)
        others = [theirs[j] for j in np.flatnonzero(near)]
        if others:
            shared = intersections(a.runs, [b.runs for b in others])
            yield from (_Overlap(a, b, n) for b, n in zip(others, shared.tolist()) if n)


def _descending(overlaps: list[_Overlap], value: Callable[[_Overlap], float]) -> list[_Overlap]:
    """Return the overlaps whose value is at least `SAME`, the greatest first, else in order."""
    return sorted((one for one in overlaps if value(one) >= SAME), key=lambda one: -value(one))
