"""Predict an image by tiles, reading the next ones meanwhile.

K classes, H W of the image, h w of a tile.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.structures import BitMasks

from ..class_maps import made
from ..data.loading.ahead import ahead
from ..data.loading.windows import WindowReader
from ..errors import ConfigError, DataError
from ..ops.run_masks import RunMasks, preferring_runs
from ..progress import Progress
from .matching import TileObject
from .merge_instances import merge_instances, tile_objects
from .merge_panoptic import PanopticMerger
from .merge_semantic import SemanticMerger
from .partial import PartialFile, TileResult
from .tiles import Tile, Tiling, place_tiles

logger = logging.getLogger(__name__)

# Images of fewer tiles are done before a progress display could be read.
_SHOWN_FROM = 16

# Maps tiles, uint8 [h, w, 3], to detectron2's dicts.
PredictTiles = Callable[[list[np.ndarray]], list[dict[str, Any]]]


class TiledPrediction(NamedTuple):
    """What was predicted of an image.

    Attributes:
        predictions: detectron2's dict, of the whole image. A large image's instances have
            `RunMasks` as `pred_masks`, and its `sem_seg` is a `LabelMap`.
        unread: for each window that could not be read, which and why.
    """

    predictions: dict[str, Any]
    unread: list[str]


def predict_by_tiles(
    predict: PredictTiles,
    windows: WindowReader,
    tiling: Tiling,
    *,
    name: str = "",
    partial: PartialFile | None = None,
) -> TiledPrediction:
    """Predict an image by overlapping tiles, and merge their results.

    In memory are the image where its format can't be read by windows, two batches of tiles, and
    what was found so far as runs of pixels.

    Args:
        predict: the model.
        windows: the image.
        tiling: how it is cut.
        name: of the image, for the progress display.
        partial: keeps the results of finished tiles; those that it has are not predicted again.

    Raises:
        DataError: no window can be read.
        ConfigError: the model's results can't be merged.
    """
    tiles = place_tiles(windows.size, tiling)
    merger = _Merger(tiles, windows.size, tiling.merge)
    finished = partial.finished if partial is not None else {}
    for index, result in finished.items():
        merger.add(tiles[index], result)
    todo = [tile for tile in tiles if tile.index not in finished]
    unread: list[str] = []
    progress = Progress(
        total=len(tiles),
        initial=len(finished),
        desc=name,
        unit="tile",
        leave=False,
        disable=len(tiles) < _SHOWN_FROM,
    )
    with progress:
        for batch, errors in _read_ahead(windows, todo, tiling.batch):
            for tile, error in errors:
                logger.error("%s", error)
                unread.append(str(error))
                merger.add(tile, None)
            with preferring_runs():
                outputs = predict([pixels for _, pixels in batch]) if batch else []
            for (tile, _), output in zip(batch, outputs, strict=True):
                result = _tile_result(tile, output, windows.size[0])
                merger.add(tile, result)
                if partial is not None:
                    partial.append(tile.index, result)
            progress.update(len(batch) + len(errors))
    if len(unread) == len(tiles):
        raise DataError(unread[0])
    return TiledPrediction(merger.result(), unread)


_Batch = tuple[list[tuple[Tile, np.ndarray]], list[tuple[Tile, DataError]]]


def _read_ahead(windows: WindowReader, tiles: Sequence[Tile], size: int) -> Iterator[_Batch]:
    """Return batches of tiles that are read, and those that can't be, one batch ahead."""

    def read(batch: Sequence[Tile]) -> _Batch:
        there, errors = [], []
        for tile in batch:
            try:
                there.append((tile, windows.read(tile.window)))
            except DataError as error:
                errors.append((tile, error))
        return there, errors

    batches = (tiles[first : first + size] for first in range(0, len(tiles), size))
    return ahead(map(read, batches), 1, "Reading a tile")


def _tile_result(tile: Tile, output: dict[str, Any], height: int) -> TileResult:
    """Return a tile's part of the image's result, on the CPU.

    Raises:
        ConfigError: the model's results can't be merged.
    """
    objects = panoptic = None
    if "instances" in output:
        found = output["instances"]
        if not found.has("pred_masks"):
            raise ConfigError(
                "TEST.TILE.SIZE needs a model that predicts masks, but the instances of this one "
                "have only boxes. Set TEST.TILE.SIZE 0."
            )
        masks = found.pred_masks
        if not isinstance(masks, RunMasks):
            masks = (masks.tensor if isinstance(masks, BitMasks) else masks).bool()
        objects = tile_objects(tile, masks, found.scores, found.pred_classes, height)
    if "panoptic_seg" in output:
        segments, infos = output["panoptic_seg"]
        if infos is None:
            raise ConfigError(
                "TEST.TILE.SIZE needs the classes of panoptic segments, which this model does not "
                "return. Set TEST.TILE.SIZE 0."
            )
        panoptic = segments.cpu(), infos
    return TileResult(objects, panoptic, made(output.get("sem_seg")))


class _Merger:
    """Collects the results of an image's tiles.

    Args:
        tiles: all of them, by their indices.
        size: (H, W).
        merge: see `merge_instances`.
    """

    def __init__(self, tiles: Sequence[Tile], size: tuple[int, int], merge: str) -> None:
        self._tiles = tiles
        self._size = size
        self._merge = merge
        self._objects: list[TileObject] | None = None
        self._panoptic: PanopticMerger | None = None
        self._semantic = SemanticMerger(tiles, size)
        self._has_semantic = False

    def add(self, tile: Tile, result: TileResult | None) -> None:
        """Take a tile's result; None where the tile could not be read."""
        self._semantic.add(tile, None if result is None else result.sem_seg)
        if result is None:
            return
        self._has_semantic |= result.sem_seg is not None
        if result.objects is not None:
            self._objects = self._objects or []
            self._objects += result.objects
        if result.panoptic is not None:
            if self._panoptic is None:
                self._panoptic = PanopticMerger(self._tiles, self._size)
            self._panoptic.add(tile, *result.panoptic)

    def result(self) -> dict[str, Any]:
        """Return detectron2's dict of the image."""
        predictions: dict[str, Any] = {}
        if self._objects is not None:
            predictions["instances"] = merge_instances(
                self._objects, self._tiles, self._size, self._merge
            )
        if self._has_semantic:
            predictions["sem_seg"] = self._semantic.result()
        if self._panoptic is not None:
            predictions["panoptic_seg"] = self._panoptic.result()
        return predictions
