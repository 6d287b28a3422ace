"""Predict picture files by tiles, so that an interrupted run can go on at the tile where it was."""

import argparse
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from detectron2.config import CfgNode

from ..data.loading.images import Reading
from ..data.loading.watchdog import TIMEOUT, Watchdog
from ..data.loading.windows import ArrayWindows, open_windows, read_whole
from ..fetch.names import weights_file
from ..predictor.predictions import Predictions
from ..tiling.partial import PartialFile
from ..tiling.predict import PredictTiles, predict_by_tiles
from ..tiling.tiles import Tiling, place_tiles
from ..version import __version__
from .source import Source


class TiledPicture(NamedTuple):
    """A picture with what was predicted of it.

    Attributes:
        image: uint8 [H, W, 3], BGR; windows that could not be read are black.
        predictions: see `TiledPrediction`.
        unread: see `TiledPrediction`.
    """

    image: np.ndarray
    predictions: Predictions
    unread: list[str]


class TiledPictures:
    """Predicts picture files by tiles.

    Args:
        predict: the model.
        tiling: how pictures are cut.
        reading: how files are read.
        model_key: changes with the model; see `model_key`.
        resumes: go on with the tiles that an interrupted run has left.
    """

    def __init__(
        self,
        *,
        predict: PredictTiles,
        tiling: Tiling,
        reading: Reading,
        model_key: str,
        resumes: bool,
    ) -> None:
        self._predict = predict
        self._tiling = tiling
        self._reading = reading
        self._model_key = model_key
        self._resumes = resumes

    def __call__(self, source: Source, output: Path | None) -> TiledPicture:
        """Predict one picture.

        Args:
            source: the picture.
            output: the file that will show it. The results of finished tiles are kept beside it
                until the picture is finished; None keeps none.

        Raises:
            DataError: nothing of the picture can be read.
        """
        with source.file() as path:
            return self._predicted(path, source, output)

    def read(self, source: Source) -> np.ndarray:
        """Return a picture, uint8 [H, W, 3], BGR; what can't be read is black.

        Raises:
            DataError: nothing of it can be read.
        """
        reading = self._reading.of_page(source.page)
        with source.file() as path, Watchdog(TIMEOUT, f"Reading {source}"):
            return read_whole(open_windows(str(path), reading.image_format, reading))

    def _predicted(self, path: Path, source: Source, output: Path | None) -> TiledPicture:
        reading = self._reading.of_page(source.page)
        with Watchdog(TIMEOUT, f"Reading {source}"):
            windows = open_windows(str(path), reading.image_format, reading)
        partial = None
        if output is not None and len(place_tiles(windows.size, self._tiling)) > self._tiling.batch:
            partial = self._partial_file(path, output, windows.size[0])
        try:
            found = predict_by_tiles(
                self._predict, windows, self._tiling, name=source.name, partial=partial
            )
        finally:
            if partial is not None:
                partial.close()
        if partial is not None:
            partial.remove()
        return TiledPicture(read_whole(windows), found.predictions, found.unread)

    def _partial_file(self, path: Path, output: Path, height: int) -> PartialFile:
        file = output.with_name(f".{output.name}.tiles")
        if not self._resumes:
            file.unlink(missing_ok=True)
        tiling = [self._tiling.size, self._tiling.overlap]
        return PartialFile(file, text_key(self._model_key, _stamp(path), tiling), height)


def predict_arrays(
    predict: PredictTiles, tiling: Tiling | None, images: list[np.ndarray]
) -> list[Predictions]:
    """Predict pictures that were read, uint8 [H, W, C], by tiles or, with None, as a whole."""
    if tiling is None:
        return predict(images)
    found = (predict_by_tiles(predict, ArrayWindows(image), tiling) for image in images)
    return [one.predictions for one in found]


def model_key(cfg: CfgNode | None, exported: Path | None) -> str:
    """Return a text that changes with what a model answers: its configuration and its weights.

    Args:
        cfg: the configuration, or None.
        exported: the folder of an exported model, or None.
    """
    if exported is not None:
        return text_key(__version__, [_stamp(file) for file in sorted(exported.iterdir())])
    assert cfg is not None
    used = cfg.clone()
    used.defrost()
    # What no tile's result depends on.
    used.OUTPUT_DIR, used.TEST.TILE.BATCH, used.TEST.TILE.MERGE = "", 1, "join"
    weights = weights_file(cfg.MODEL.WEIGHTS)
    return text_key(__version__, used.dump(), _stamp(weights) if weights.is_file() else None)


def written(cfg: CfgNode | None, exported: Path | None) -> float:
    """Return when the files of a model were written last; see `model_key`. 0 if it is unknown."""
    if exported is not None:
        return max(file.stat().st_mtime for file in exported.iterdir())
    assert cfg is not None
    weights = Path(cfg.MODEL.WEIGHTS)  # what has a name, as in the zoo, does not change
    return weights.stat().st_mtime if weights.is_file() else 0.0


def _stamp(path: Path) -> list[str | int]:
    """Return what tells a file from another one, and from itself after it was changed."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def text_key(*parts: object) -> str:
    """Return a short text that changes with any of the parts, which JSON can have."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def add_tile_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--tile`."""
    parser.add_argument(
        "--tile",
        nargs="+",
        type=int,
        metavar="PIXELS",
        help="predict by tiles of this size, and with a second number, of this overlap "
        "(default: TEST.TILE of the config)",
    )
