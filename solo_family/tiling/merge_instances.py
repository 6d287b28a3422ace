"""Join the instances of overlapping tiles to those of the image.

N instances, H W of the image, h w of a tile.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import torch
from detectron2.structures import Instances
from torch import Tensor

from ..modeling.instances import make_instances
from ..ops.run_masks import RunMasks, are_dense
from ..ops.runs import Runs, boxes_and_areas, joined, moved, runs_of, split, union
from ..ops.window import Window
from .links import Links
from .matching import Link, TileObject, link, masks_of_tile
from .repeats import without_repeats
from .tiles import Tile, overlapping


def tile_objects(
    tile: Tile, masks: Tensor | RunMasks, scores: Tensor, classes: Tensor, height: int
) -> list[TileObject]:
    """Return what a tile shows, in the image's pixels; masks without a pixel are left out.

    Args:
        tile: the tile.
        masks: bool [N, h, w], on any device, or runs.
        scores: [N].
        classes: int64 [N].
        height: H.
    """
    if isinstance(masks, RunMasks):
        own, ends = joined(masks.masks)
        runs = moved(own, masks.size[0], tile.window, height)
    else:
        runs, ends = joined(runs_of(masks, tile.window, height))
    boxes, areas = boxes_and_areas(runs, ends, height)
    seen = zip(split(runs, ends), boxes.tolist(), areas.tolist(), scores.tolist(), classes.tolist())
    objects = []
    for mask, corners, area, score, label in seen:
        if area:
            box = Window(*corners)
            is_cut = tile.cuts(box)
            objects.append(TileObject(tile.index, mask, box, area, score, label, is_cut))
    return objects


def merge_instances(
    objects: Iterable[TileObject], tiles: Sequence[Tile], size: tuple[int, int], merge: str
) -> Instances:
    """Return the instances of the image.

    Whether two masks are one object's is told by the overlap of their tiles alone; see `link`.
    Then, with "join",

    - where both leave the other's tile, the object is larger than what one tile sees: its mask is
      the union, its score the greatest; but of very different scores only the better is kept;
    - where one leaves the other's tile, that one sees more of the object, and is kept, unless it
      scores less than the other, or than half of it where a border cuts the other;
    - where none does, the one with the greater score is kept.

    With "nms" the one with the greater score is kept in any case, and nothing is joined. In both
    cases, masks of different tiles that lie on better ones are dropped then; see `without_repeats`.

    The order of tiles and of their instances does not matter.

    Args:
        objects: of all tiles.
        tiles: all of them, by their indices.
        size: (H, W).
        merge: "join" or "nms".

    Returns:
        See `instances_of`.
    """
    ranked = sorted(objects, key=lambda found: found.rank)
    links = Links(len(ranked), merge)
    for one in link_all(ranked, tiles, size[0]):
        links.add(one)
    groups = links.groups()
    masks = [union([ranked[index].runs for index in group]) for group in groups]
    stays = without_repeats(groups, masks, ranked, size[0])
    groups, masks = [groups[index] for index in stays], [masks[index] for index in stays]
    # The first of a group has the greatest score.
    scores = [ranked[group[0]].score for group in groups]
    classes = [ranked[group[0]].label for group in groups]
    return instances_of(masks, scores, classes, size)


def link_all(ranked: Sequence[TileObject], tiles: Sequence[Tile], height: int) -> Iterator[Link]:
    """Yield the links between the objects of every two tiles that overlap.

    Args:
        ranked: the objects of all tiles, in the order of their ranks.
        tiles: all of them, by their indices.
        height: H.
    """
    of_tile: dict[int, list[int]] = defaultdict(list)
    for index, found in enumerate(ranked):
        of_tile[found.tile].append(index)
    masks = {tile: masks_of_tile(ranked, indices) for tile, indices in of_tile.items()}
    for one, other in overlapping(list(tiles)):
        if one in masks and other in masks:
            shared = tiles[one].window.intersection(tiles[other].window)
            yield from link(ranked, masks[one], masks[other], shared, height)


def instances_of(
    masks: Sequence[Runs], scores: Sequence[float], classes: Sequence[int], size: tuple[int, int]
) -> Instances:
    """Return detectron2's `Instances`, the best score first.

    Their `pred_masks` are bool [N, H, W] where that needs little memory, see `are_dense`, and else
    `RunMasks`.
    """
    packed = RunMasks(masks, size)
    return make_instances(
        packed.tensor if are_dense(len(masks), size) else packed,
        torch.tensor(scores, dtype=torch.float32, device="cpu"),
        torch.tensor(classes, dtype=torch.int64, device="cpu"),
        packed.boxes,
    )
