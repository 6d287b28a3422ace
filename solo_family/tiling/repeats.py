"""Drop what is left of an object beside its better mask, once the masks of all tiles are joined.

Where a model has several masks of one object in each of two tiles, the pairs of the best and of the
others are linked, and of each pair one stays: the best of one tile, and another of the other tile,
on top of each other.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ..ops.runs import Runs, boxes_and_areas, intersections, joined
from .matching import TileObject
from .tiles import Tile, overlapping

# A mask repeats a better one that has this share of it; one that contains a better one stays.
COVERED = 0.7


def without_repeats(
    groups: Sequence[Sequence[int]],
    masks: Sequence[Runs],
    objects: Sequence[TileObject],
    tiles: Sequence[Tile],
    height: int,
) -> list[int]:
    """Return the indices of the joined masks that repeat no better one of their class.

    Two masks that stay from one tile are two objects: the method's own suppression has kept both.

    Args:
        groups: which of `objects` each joined mask consists of, the best score first.
        masks: the joined masks.
        objects: of all tiles.
        tiles: all of them, by their indices.
        height: of the image.
    """
    seen_by = [frozenset(objects[index].tile for index in group) for group in groups]
    boxes, areas = boxes_and_areas(*joined(masks), height)
    labels = np.array([objects[group[0]].label for group in groups])
    reach = _by_reach(seen_by, tiles)
    reach_of_all: dict[frozenset[int], np.ndarray] = {}
    stays = np.ones(len(masks), bool)
    for index, mask in enumerate(masks):
        if not stays[index]:
            continue
        worse = reach_of_all.get(seen_by[index])
        if worse is None:
            worse = np.unique(np.concatenate([reach[tile] for tile in seen_by[index]]))
            reach_of_all[seen_by[index]] = worse
        worse = worse[np.searchsorted(worse, index, side="right") :]
        worse = worse[stays[worse] & (labels[worse] == labels[index])]
        begins = np.maximum(boxes[worse, :2], boxes[index, :2])
        ends = np.minimum(boxes[worse, 2:], boxes[index, 2:])
        worse = worse[(begins < ends).all(axis=1)]
        others = [other for other in worse.tolist() if not seen_by[index] & seen_by[other]]
        if others:
            shared = intersections(mask, [masks[other] for other in others])
            stays[others] = shared < COVERED * areas[others]
    return np.flatnonzero(stays).tolist()


def _by_reach(seen_by: Sequence[frozenset[int]], tiles: Sequence[Tile]) -> dict[int, np.ndarray]:
    """Return for each tile the masks that it or a tile that overlaps it shows, ascending."""
    of_tile: dict[int, list[int]] = defaultdict(list)
    for index, numbers in enumerate(seen_by):
        for tile in numbers:
            of_tile[tile].append(index)
    reach: dict[int, set[int]] = {tile: set(masks) for tile, masks in of_tile.items()}
    for one, other in overlapping(list(tiles)):
        for here, there in ((one, other), (other, one)):
            if here in reach:
                reach[here].update(of_tile.get(there, ()))
    return {tile: np.array(sorted(masks)) for tile, masks in reach.items()}
