"""Cross-validation: train on all but one part of a dataset, measure on that, and so for each."""

import argparse
import datetime
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import setup_cfg
from ..data.loading.images import Reading
from ..errors import ConfigError, DataError
from ..files import replacing
from ..recipe.data import Dataset, in_place, read_dataset, write_parts
from ..recipe.folds import split_folds
from ..report.folds import last_results, summary
from .opts import add_opts_argument
from .training import run_training

_STATE, _SUMMARY = "folds.json", "folds.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `folds`."""
    parser.add_argument("--config-file", required=True, metavar="FILE", help="of each training")
    parser.add_argument(
        "--folds", type=int, default=5, metavar="K", help="number of trainings (default: 5)"
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="what to split: ANNOTATIONS.json:IMAGE_DIR, or a dataset as configs name it "
        "(default: the DATASETS.TRAIN of the config)",
    )
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="of a training")
    add_opts_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Train each fold that is not finished, print the summary, and return the exit status.

    The same command goes on where an interrupted one was.

    Raises:
        SoloFamilyError: the config or the data can't be used.
    """
    cfg = setup_cfg(args.config_file, args.opts)
    name = in_place(args.data) if args.data else _trained_on(cfg.DATASETS.TRAIN)
    whole = read_dataset(name, Reading.from_config(cfg))
    whole.file.check()
    output = Path(cfg.OUTPUT_DIR)
    output.mkdir(parents=True, exist_ok=True)
    splits = split_folds(whole.file.content, args.folds)
    # Before anything is written: what has ended keeps its files where the command is refused.
    state = _State(
        output / _STATE,
        {
            "dataset": name,
            "folds": args.folds,
            "config": _hash(cfg.dump()),
            "state of the dataset": _hash(json.dumps(splits, default=str)),
        },
    )
    parts = _write_folds(whole, splits, output)
    started, trained = time.monotonic(), 0
    for fold, (train, val) in enumerate(parts):
        if state.results[fold] is not None:
            continue
        folder = output / f"fold_{fold + 1}"
        print(f"fold {fold + 1} of {args.folds}: {folder}", flush=True)
        words = ["--config-file", args.config_file, "--num-gpus", str(args.num_gpus), "--resume"]
        words += [*args.opts, "DATASETS.TRAIN", repr((train,)), "DATASETS.TEST", repr((val,))]
        status = run_training([*words, "OUTPUT_DIR", str(folder)])
        if status:
            print(f"fold {fold + 1} has not ended; the same command goes on there.")
            return status
        trained += 1
        state.add(fold, last_results(folder))
        left = (time.monotonic() - started) / trained * state.results.count(None)
        print(
            f"fold {fold + 1} of {args.folds} is done; "
            f"about {datetime.timedelta(seconds=round(left))} left",
            flush=True,
        )
    text = summary(name, [result for result in state.results if result is not None])
    with replacing(output / _SUMMARY) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"\n{text}\n{output / _SUMMARY}")
    return 0


def _trained_on(names: tuple[str, ...]) -> str:
    if len(names) != 1:
        raise ConfigError(
            f"DATASETS.TRAIN names {len(names)} datasets, but folds are of one. Name it with "
            "--data ANNOTATIONS.json:IMAGE_DIR."
        )
    return names[0]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write_folds(
    whole: Dataset, splits: Sequence[dict[str, Any]], output: Path
) -> list[tuple[str, str]]:
    """Write the json files of the folds, and return the datasets of training and validation."""
    return [
        write_parts(whole, of_fold, output / "folds_data" / str(fold + 1))
        for fold, of_fold in enumerate(splits)
    ]


class _State:
    """The results of the folds that have ended, in a file.

    Args:
        path: of the file.
        is_of: what the results are of, by the words of the message that refuses something else; the
            number of "folds" among it.

    Attributes:
        results: metrics by name for each fold; None for one that has not ended.

    Raises:
        DataError: the file is of something else, for instance of fewer images.
    """

    def __init__(self, path: Path, is_of: dict[str, Any]) -> None:
        self._path = path
        self._is_of = is_of
        self.results: list[dict[str, float | None] | None] = [None] * is_of["folds"]
        if not path.is_file():
            return
        content = json.loads(path.read_text(encoding="utf-8"))
        differing = [key for key, value in self._is_of.items() if content.get(key) != value]
        if differing:
            raise DataError(
                f"{path} is of another {' and '.join(differing)}: folds that have ended can't go "
                "on with it. Name another OUTPUT_DIR, or remove the old one."
            )
        self.results = content["results"]

    def add(self, fold: int, results: dict[str, float | None]) -> None:
        """Store the results of a fold."""
        self.results[fold] = results
        with replacing(self._path) as temporary:
            content = self._is_of | {"results": self.results}
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
