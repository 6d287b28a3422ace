"""Find the objects that two overlapping tiles both see, by what the tiles share alone.

Within the overlap both tiles have the same pixels, so that one object's two masks agree there,
however large it is and whatever the tiles' borders cut off.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..ops.runs import Runs, box_of, clip, intersections
from ..ops.window import Window

# From this IoU on, two masks are one object's; and from this share of the smaller one on, a mask
# that has no such partner is a piece of the larger one.
SAME = 0.5
# Parts of one object are joined if none scores more than this many times as much as the other: the
# shape of a mask with a very low score would spoil a good one.
ALIKE = 4


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
        """The link of two masks that agree in the overlap."""
        a, b = sorted((self.a, self.b), key=lambda part: part.index)  # the better rank first
        low, high = sorted((a.whole.score, b.whole.score))
        if a.leaves and b.leaves and high <= ALIKE * low:
            return Link(a.index, b.index, joins=True)
        if b.leaves and not a.leaves and a.yields_to(b):
            return Link(b.index, a.index)
        return Link(a.index, b.index)

    @property
    def piece(self) -> Link | None:
        """The link of a piece with the mask that contains it; None if both are kept."""
        larger = self.b if self.smaller is self.a else self.a
        if self.smaller.yields_to(larger):
            return Link(larger.index, self.smaller.index)
        return None


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
        piece = overlap.piece
        if piece is not None and piece.other not in linked:
            linked.add(piece.other)
            links.append(piece)
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


def _overlaps(ours: list[_Seen], theirs: list[_Seen]) -> Iterator[_Overlap]:
    """Yield all pairs of one class of which one part has at least `SAME` of the smaller one."""
    boxes = np.array([part.box for part in theirs]).reshape(-1, 4)
    labels = np.array([part.label for part in theirs])
    areas = np.array([part.area for part in theirs])
    for a in ours:
        sides = np.minimum(boxes[:, 2:], a.box[2:]) - np.maximum(boxes[:, :2], a.box[:2])
        # Masks share no more than their boxes do.
        most = sides.clip(min=0).prod(axis=1)
        near = (labels == a.label) & (most > 0) & (most >= SAME * np.minimum(areas, a.area))
        others = [theirs[j] for j in np.flatnonzero(near)]
        if others:
            shared = intersections(a.runs, [b.runs for b in others])
            enough = shared >= SAME * np.minimum(areas[near], a.area)
            yield from (_Overlap(a, others[j], int(shared[j])) for j in np.flatnonzero(enough))


def _descending(overlaps: list[_Overlap], value: Callable[[_Overlap], float]) -> list[_Overlap]:
    """Return the overlaps whose value is at least `SAME`, the greatest first, else in order."""
    return sorted((one for one in overlaps if value(one) >= SAME), key=lambda one: -value(one))
