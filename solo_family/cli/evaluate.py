"""Measure exported models on a dataset: AP, size, and the time of each stage."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from detectron2.data import DatasetCatalog
from tabulate import tabulate
from tqdm import tqdm

from ..data.formats.register import check_datasets, register_in_place
from ..data.loading.watchdog import TIMEOUT, Watchdog
from ..errors import ConfigError, SoloFamilyError
from ..evaluation.build import coco_evaluator, mapped
from ..predictor.exported import as_instances, open_exported
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
        "--limit", type=int, metavar="N", help="time the first N images, and measure no AP"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the numbers to this file"
    )


def run(args: argparse.Namespace) -> int:
    """Print a line for each model, and return the exit status.

    Raises:
        SoloFamilyError: a folder, a flag or the dataset can't work.
    """
    if args.limit is not None and args.limit < 1:
        raise SoloFamilyError(f"--limit is {args.limit}; at least 1 is needed.")
    models = [open_exported(folder) for folder in args.exported]
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
    measured = [measure(model, args.dataset, args.limit) for model in models]
    print(table(measured))
    if args.json is not None:
        write_json(args.json, measured)
    return 0


def measure(model: "ExportedModel", dataset: str, limit: int | None) -> dict[str, Any]:
    """Run a model over a dataset.

    Args:
        model: predicts instances.
        dataset: a registered name.
        limit: the greatest number of images; None for all, whose AP is then measured.

    Returns:
        `folder`, `precision`, `megabytes`, `milliseconds` by stage (medians), and `AP` and `AP50`
        of masks in percent, which are None with a limit.
    """
    images = DatasetCatalog.get(dataset)[:limit]
    seconds: dict[str, list[float]] = {stage: [] for stage in _STAGES}

    def timed(stage: str, part: Callable[[], T]) -> T:
        """Return a part's result, and record how long it took."""
        start = time.perf_counter()
        result = part()
        seconds[stage].append(time.perf_counter() - start)
        return result

    scores: dict[str, float | None] = {"AP": None, "AP50": None}
    with tempfile.TemporaryDirectory() as folder:
        classes = model.description["classes"]
        evaluator = None if limit else mapped(coco_evaluator(dataset, folder), classes, dataset)
        if evaluator is not None:
            evaluator.reset()
        for item in tqdm(images, str(model.folder), leave=False):
            with Watchdog(TIMEOUT, f"Reading {item['file_name']}"):
                picture = model.read(item["file_name"])
            given, sizes = timed(_STAGES[0], lambda: model.preprocess(picture))  # noqa: B023
            outputs = timed(_STAGES[1], lambda: model.forward(given))  # noqa: B023
            found = timed(_STAGES[2], lambda: model.postprocess(outputs, sizes))  # noqa: B023
            if evaluator is not None:
                assert found.instances is not None
                evaluator.process([item], [{"instances": as_instances(found.instances)}])
        if evaluator is not None:
            results = evaluator.evaluate()["segm"]
            scores = {name: float(results[name]) for name in scores}
    return {
        "folder": str(model.folder),
        "precision": model.description["precision"],
        "images": len(images),
        "megabytes": (model.folder / model.description["file"]).stat().st_size / 2**20,
        "milliseconds": {
            stage: 1000 * statistics.median(times) for stage, times in seconds.items()
        },
        **scores,
    }


def table(measured: list[dict[str, Any]]) -> str:
    """Return a table, with the network's time as a ratio to that of the first model."""
    rows = [
        (
            result["folder"],
            result["precision"],
            *("-" if result[name] is None else f"{result[name]:.1f}" for name in ("AP", "AP50")),
            f"{result['megabytes']:.1f}",
            *(f"{result['milliseconds'][stage]:.1f}" for stage in _STAGES),
            f"{_network(result) / _network(measured[0]):.2f}",
        )
        for result in measured
    ]
    heads = ("model", "precision", "mask AP", "AP50", "MB")
    times = [f"{stage} ms" for stage in _STAGES]
    return tabulate(rows, (*heads, *times, "network ratio"), disable_numparse=True)


def _network(result: dict[str, Any]) -> float:
    return result["milliseconds"]["network"]
