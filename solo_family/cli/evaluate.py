"""Measure exported models on a dataset: AP, size, and the time of each stage."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from detectron2.data import DatasetCatalog
from tabulate import tabulate

from ..data.formats.own_records import dataset_records
from ..data.formats.register import check_datasets, register_in_place
from ..data.loading.watchdog import TIMEOUT, Watchdog
from ..data.loading.windows import open_windows
from ..errors import ConfigError, SoloFamilyError
from ..evaluation.build import mapped
from ..evaluation.instance_results import most_per_image
from ..evaluation.preconditions import instance_kind
from ..predictor.exported import as_detectron2, exported_reading, open_exported
from ..predictor.predictions import Predictions
from ..progress import Progress
from ..tiling.model import refuse_unread
from ..tiling.predict import TiledPrediction, predict_by_tiles
from ..tiling.tiles import Tiling, with_tile
from .tiled_pictures import add_tile_argument
from .writers import make_folder, write_json

if TYPE_CHECKING:
    from ..export.runtime import ExportedModel

_STAGES = ("preprocessing", "network", "post-processing")
T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `evaluate`."""
    parser.add_argument(
        "--exported",
        required=True,
        nargs="+",
        type=Path,
        metavar="DIR",
        help="models that `export` wrote, of one dataset; the others are compared with the first",
    )
    parser.add_argument(
        "--dataset",
        required=True,
        metavar="NAME",
        help="dataset of instances, for instance coco_json:ANNOTATIONS.json:IMAGE_DIR",
    )
    parser.add_argument(
        "--engine", metavar="NAME", help="onnxruntime (the default) or openvino, which runs them"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="time the first N images, and measure no AP"
    )
    add_tile_argument(parser)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the numbers to this file"
    )


def run(args: argparse.Namespace) -> int:
    """Print a line for each model, and return the exit status.

    Raises:
        SoloFamilyError: a folder, a flag or the dataset can't work; or, after the numbers are
            printed, a part of an image could not be read.
    """
    if args.limit is not None and args.limit < 1:
        raise SoloFamilyError(f"--limit is {args.limit}; at least 1 is needed.")
    models = [open_exported(folder, args.engine) for folder in args.exported]
    for model in models:
        if (
            model.description["task"] == "windows"
            or model.description.get("results", {}).get("instance") is False
        ):
            raise ConfigError(f"{model.folder} does not predict instances of classes.")
    if args.json is not None:
        make_folder(args.json.parent)
    register_in_place([args.dataset])
    if args.dataset not in DatasetCatalog.list():
        raise ConfigError(
            f"--dataset {args.dataset} is not registered. Describe it in place, for instance as "
            "coco_json:ANNOTATIONS.json:IMAGE_DIR."
        )
    check_datasets([args.dataset])
    instance_kind(args.dataset)
    tiling = with_tile(None, args.tile)
    measured = [measure(model, args.dataset, args.limit, tiling) for model in models]
    print(table(measured))
    unread = [line for result in measured for line in result.pop("unread")]
    if args.json is not None:
        write_json(args.json, measured)
    refuse_unread(unread)
    return 0


def measure(
    model: "ExportedModel", dataset: str, limit: int | None, tiling: Tiling | None = None
) -> dict[str, Any]:
    """Run a model over a dataset.

    Args:
        model: predicts instances.
        dataset: a registered name.
        limit: the greatest number of images; None for all, whose AP is then measured.
        tiling: how images are cut into tiles; None for not at all. The times are then those of all
            tiles of an image.

    Returns:
        `folder`, `precision`, `megabytes`, `milliseconds` by stage (medians), `AP` and `AP50` of
        masks in percent, of the best `max_detections` of an image, which are None with a limit, and
        `unread`, for each window that could not be read which and why.
    """
    images = dataset_records(dataset)[:limit]
    stopwatch = _Stopwatch()
    scores: dict[str, float | None] = {"AP": None, "AP50": None}
    unread: list[str] = []
    counts: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        classes = model.description["classes"]
        kind = instance_kind(dataset)
        evaluator = None if limit else mapped(kind.build(dataset, folder), classes, dataset)
        if evaluator is not None:
            evaluator.reset()
        for item in Progress(images, str(model.folder), leave=False):
            found = _predict(model, item["file_name"], tiling, stopwatch)
            unread += found.unread
            stopwatch.next_image()
            if evaluator is not None:
                evaluator.process([item], [found.predictions])
                counts.append(len(found.predictions["instances"]))
        if evaluator is not None:
            results = evaluator.evaluate()["segm"]
            scores = {name: float(results[name]) for name in scores}
    return {
        "folder": str(model.folder),
        "precision": model.description["precision"],
        "images": len(images),
        "megabytes": sum(
            (model.folder / model.description[name]).stat().st_size / 2**20
            for name in ("file", "weights_file")
            if model.description.get(name)
        ),
        "milliseconds": stopwatch.milliseconds(),
        "max_detections": most_per_image(counts) if counts else None,
        **scores,
        "unread": unread,
    }


class _Stopwatch:
    """The seconds of each stage, image by image."""

    def __init__(self) -> None:
        self._images: list[dict[str, float]] = []
        self._now = dict.fromkeys(_STAGES, 0.0)

    def timed(self, stage: str, part: Callable[[], T]) -> T:
        """Return a part's result, and add how long it took to a stage."""
        start = time.perf_counter()
        result = part()
        self._now[stage] += time.perf_counter() - start
        return result

    def next_image(self) -> None:
        """Begin another image."""
        self._images.append(self._now)
        self._now = dict.fromkeys(_STAGES, 0.0)

    def milliseconds(self) -> dict[str, float]:
        """Return the median of each stage."""
        return {
            stage: 1000 * statistics.median(image[stage] for image in self._images)
            for stage in _STAGES
        }


def _predict(
    model: "ExportedModel", path: str, tiling: Tiling | None, stopwatch: _Stopwatch
) -> TiledPrediction:
    """Predict an image, timing each stage."""

    def one(picture: np.ndarray) -> Predictions:
        given, sizes = stopwatch.timed(_STAGES[0], lambda: model.preprocess(picture))
        outputs = stopwatch.timed(_STAGES[1], lambda: model.forward(given))
        found = stopwatch.timed(_STAGES[2], lambda: model.postprocess(outputs, sizes))
        return as_detectron2(found, model)

    if tiling is None:
        with Watchdog(TIMEOUT, f"Reading {path}"):
            picture = model.read(path)
        return TiledPrediction(one(picture), [])
    with Watchdog(TIMEOUT, f"Reading {path}"):
        reading = exported_reading(model.description)
        windows = open_windows(path, reading.image_format, reading)
    return predict_by_tiles(lambda tiles: [one(tile) for tile in tiles], windows, tiling)


def table(measured: list[dict[str, Any]]) -> str:
    """Return a table, with the network's time as a ratio to that of the first model."""
    rows = [
        (
            result["folder"],
            result["precision"],
            *("-" if result[name] is None else f"{result[name]:.1f}" for name in ("AP", "AP50")),
            result["max_detections"] or "-",
            f"{result['megabytes']:.1f}",
            *(f"{result['milliseconds'][stage]:.1f}" for stage in _STAGES),
            f"{_network(result) / _network(measured[0]):.2f}",
        )
        for result in measured
    ]
    heads = ("model", "precision", "mask AP", "AP50", "max dets", "MB")
    times = [f"{stage} ms" for stage in _STAGES]
    return tabulate(rows, (*heads, *times, "network ratio"), disable_numparse=True)


def _network(result: dict[str, Any]) -> float:
    return result["milliseconds"]["network"]
