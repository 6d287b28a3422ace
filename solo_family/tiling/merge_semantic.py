"""Blend the semantic scores of overlapping tiles, and forget what no further tile adds to.

K classes, H W of the image, h w of a tile.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..ops.label_maps import class_of_pixels
from ..ops.window import Window
from .tiles import Tile

# The scores of an image that take no more memory than this are returned as they are.
DENSE_BYTES = 256 * 2**20


class SemanticMerger:
    """Average the scores of each pixel over the tiles that have it.

    A tile's weight falls off linearly towards a border within the image, from 1 at the end of what
    it shares with its neighbour. Of a large image only the best class of each pixel is kept, once
    all its tiles are there, so that scores are in memory only where tiles overlap.

    Args:
        tiles: all of them; `add` takes each once, in any order.
        size: (H, W).
    """

    def __init__(self, tiles: Sequence[Tile], size: tuple[int, int]) -> None:
        self._size = size
        self._tiles = tiles
        self._rows = _edges([(tile.window.top, tile.window.bottom) for tile in tiles])
        self._columns = _edges([(tile.window.left, tile.window.right) for tile in tiles])
        # By cell, a part of the image that no border crosses: how many tiles are to come, and of
        # those that have, the index, scores, float32 [K, h, w], and weights, float32 [h, w].
        self._missing: dict[Window, int] = {}
        self._pending: dict[Window, list[tuple[int, Tensor, Tensor]]] = {}
        for tile in tiles:
            for cell in self._cells(tile):
                self._missing[cell] = self._missing.get(cell, 0) + 1
        self._result: Tensor | None = None
        self._is_dense = False

    def add(self, tile: Tile, scores: Tensor | None) -> None:
        """Take a tile's scores, floating-point [K, h, w]; None where it could not be read."""
        weights = None
        if scores is not None:
            scores = scores.float().cpu()
            self._make_result(len(scores))
            weights = self._weights(tile)
        for cell in self._cells(tile):
            parts = self._pending.setdefault(cell, [])
            if scores is not None and weights is not None:
                place = _within(cell, tile.window)
                parts.append((tile.index, scores[:, *place].clone(), weights[place]))
            self._missing[cell] -= 1
            if not self._missing[cell]:
                del self._missing[cell], self._pending[cell]
                if parts:
                    self._finish(cell, parts)

    def result(self) -> "Tensor | LabelMap":
        """Return the scores, float32 [K, H, W], or of a large image the classes.

        Pixels that no tile shows have the scores 0, and so the first class.
        """
        assert self._result is not None
        return self._result if self._is_dense else LabelMap(self._result, self._classes)

    def _make_result(self, classes: int) -> None:
        if self._result is None:
            self._classes = classes
            self._is_dense = 4 * classes * self._size[0] * self._size[1] <= DENSE_BYTES
            shape = (classes, *self._size) if self._is_dense else self._size
            kind = torch.float32 if self._is_dense else torch.int16
            self._result = torch.zeros(shape, dtype=kind, device="cpu")

    def _finish(self, cell: Window, parts: list[tuple[int, Tensor, Tensor]]) -> None:
        assert self._result is not None
        if len(parts) == 1:
            scores = parts[0][1]
        else:
            # In the order of the tiles: sums of rounded numbers depend on theirs.
            parts.sort(key=lambda part: part[0])
            weights = torch.stack([weights for _, _, weights in parts])
            scores = torch.zeros_like(parts[0][1])
            for share, (_, given, _) in zip(weights / weights.sum(dim=0), parts):
                scores += given * share
        place = slice(cell.top, cell.bottom), slice(cell.left, cell.right)
        if self._is_dense:
            self._result[:, *place] = scores
        else:
            self._result[place] = class_of_pixels(scores).short()

    def _cells(self, tile: Tile) -> list[Window]:
        rows = [edge for edge in self._rows if tile.window.top <= edge <= tile.window.bottom]
        columns = [edge for edge in self._columns if tile.window.left <= edge <= tile.window.right]
        return [
            Window(top, left, bottom, right)
            for top, bottom in pairwise(rows)
            for left, right in pairwise(columns)
        ]

    def _weights(self, tile: Tile) -> Tensor:
        """Return a tile's weights, float32 [h, w], above 0."""
        window, core = tile.window, tile.core
        rows = _ramp(window.top, window.bottom, core.top, core.bottom)
        columns = _ramp(window.left, window.right, core.left, core.right)
        return rows[:, None] * columns


def _edges(spans: list[tuple[int, int]]) -> list[int]:
    return sorted({edge for span in spans for edge in span})


def _within(cell: Window, window: Window) -> tuple[slice, slice]:
    rows = slice(cell.top - window.top, cell.bottom - window.top)
    return rows, slice(cell.left - window.left, cell.right - window.left)


def _ramp(start: int, stop: int, core_start: int, core_stop: int) -> Tensor:
    """Return weights along an axis.

    A core ends in the middle of an overlap, so that the overlap is twice as wide as what is beyond
    the core; at the image's border nothing is.
    """
    places = torch.arange(start, stop, dtype=torch.float32, device="cpu") + 0.5
    weights = torch.ones(stop - start, dtype=torch.float32, device="cpu")
    for distance, beyond in (
        (places - start, core_start - start),
        (stop - places, stop - core_stop),
    ):
        if beyond:
            weights = torch.minimum(weights, (distance / (2 * beyond)).clamp(max=1))
    return weights


class LabelMap:
    """The class of every pixel of a large image, where else scores [K, H, W] stand.

    Args:
        labels: int16 [H, W].
        classes: K.
    """

    def __init__(self, labels: Tensor, classes: int) -> None:
        self.labels = labels
        self.shape = (classes, *labels.shape)

    def argmax(self, dim: int = 0) -> Tensor:
        """Return the classes, int64 [H, W]; of scores, the place of the greatest along `dim` 0."""
        assert dim == 0
        return self.labels.long()

    def only(self, labels: Tensor) -> "LabelMap":
        """Return the map with a class more, K, of the pixels whose class is not in `labels`."""
        kept = torch.isin(self.labels.long(), labels)
        return LabelMap(torch.where(kept, self.labels, self.shape[0]).short(), self.shape[0] + 1)

    def to(self, *_: Any, **__: Any) -> "LabelMap":
        """Return itself: it is on the CPU."""
        return self

    def __getitem__(self, order: Tensor) -> "LabelMap":
        """Return the map of classes in another order, int64 [K], of which all are there once."""
        return LabelMap(order.argsort().short()[self.labels.long()], len(order))
