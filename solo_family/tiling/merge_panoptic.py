"""Join the segments of overlapping tiles to a panoptic segmentation of the image.

N segments of a tile, H W of the image, h w of a tile.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..segments import join_segments
from .links import connected
from .matching import TileObject
from .merge_instances import link_all, tile_objects
from .tiles import Tile

Segment = dict[str, Any]


class PanopticMerger:
    """Segments that overlapping tiles share become one; each pixel is the nearest tile's.

    Things are one where their masks agree in the overlap (see `link`), however many tiles they go
    through; all segments of a stuff class are one. The pixels of the image are taken from the tile
    to whose centre they are nearest, so that no two segments overlap.

    Args:
        tiles: all of them, by their indices; `add` takes each once, in any order.
        size: (H, W).
    """

    def __init__(self, tiles: Sequence[Tile], size: tuple[int, int]) -> None:
        self._tiles = tiles
        self._size = size
        # Numbers of segments of all tiles, from 1, in the order of `_parts`.
        self._map = np.zeros(size, np.int32)
        self._parts: list[TileObject] = []
        self._is_thing: list[bool] = []

    def add(self, tile: Tile, segments: Tensor, infos: Sequence[Segment]) -> None:
        """Take a tile's segments.

        Args:
            tile: the tile.
            segments: int [h, w] of their ids.
            infos: of each its `id`, `category_id`, `isthing`, and where it has one its `score`.
        """
        ids = segments.cpu()
        listed = torch.tensor([info["id"] for info in infos], dtype=ids.dtype, device="cpu")
        numbers = np.zeros(ids.shape, np.int32)
        for info, part in zip(infos, self._found(tile, ids, listed, infos)):
            for one in part:
                self._parts.append(one)
                self._is_thing.append(bool(info["isthing"]))
                numbers[(ids == info["id"]).numpy()] = len(self._parts)
        core, window = tile.core, tile.window
        self._map[core.top : core.bottom, core.left : core.right] = numbers[
            core.top - window.top : core.bottom - window.top,
            core.left - window.left : core.right - window.left,
        ]

    def _found(
        self, tile: Tile, ids: Tensor, listed: Tensor, infos: Sequence[Segment]
    ) -> list[list[TileObject]]:
        """Return what each segment is in the image: one object, or none without pixels."""
        return [
            tile_objects(
                tile,
                ids[None] == one,
                torch.tensor([info.get("score", 1.0)], dtype=torch.float32, device="cpu"),
                torch.tensor([info["category_id"]], device="cpu"),
                self._size[0],
            )
            for one, info in zip(listed, infos)
        ]

    def result(self) -> tuple[Tensor, list[Segment]]:
        """Return detectron2's `panoptic_seg`: int32 [H, W] of ids from 1, and the segments.

        Each has `id`, `category_id`, `isthing`, and `score`, the greatest of its parts'. Those
        of which no pixel is left are none.
        """
        shown = np.zeros(len(self._parts) + 1, bool)
        for row in self._map:  # a row at a time: a lookup takes eight bytes for each pixel
            shown[row] = True
        order = sorted(range(len(self._parts)), key=lambda part: self._parts[part].rank)
        segment_of = self._joined(order)
        # A segment for each group of parts; groups come in the order of their best parts.
        best = [part for part in order if segment_of[part] == part]
        visible = {segment_of[part] for part in order if shown[part + 1]}
        stuff = sorted({self._parts[p].label for p in best if not self._is_thing[p]})
        ids, segments = join_segments(
            ((p in visible, self._parts[p].label, self._parts[p].score) for p in best), stuff
        )
        number = dict(zip(best, ids))
        lookup = np.array([0, *(number[segment] for segment in segment_of)], np.int32)
        for row in self._map:
            row[:] = lookup[row]
        return torch.from_numpy(self._map), segments

    def _joined(self, order: list[int]) -> list[int]:
        """Return, for each part, the best of the parts of its segment.

        Args:
            order: the parts in the order of their ranks.
        """
        ranked = [self._parts[part] for part in order]
        pairs = [
            (one.better, one.other)
            for one in link_all(ranked, self._tiles, self._size[0])
            if self._is_thing[order[one.better]]
        ]
        first_of: dict[int, int] = {}
        for place, part in enumerate(order):
            if not self._is_thing[part]:
                pairs.append((first_of.setdefault(ranked[place].label, place), place))
        places = connected(len(order), pairs)
        joined = [0] * len(order)
        for place, part in enumerate(order):
            joined[part] = order[places[place]]
        return joined
