"""The writers of metrics that `OUTPUT.LOGGERS` names, beside the log and metrics.json."""

import importlib
import logging
import os
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.engine import HookBase
from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils.events import EventWriter, TensorboardXWriter, get_event_storage

from ..config.output import check_installed
from ..errors import ConfigError, first_line

logger = logging.getLogger(__name__)

_SMOOTHED = 20  # iterations, as in metrics.json
# The module of each logger and its class; imported only if it is used.
_MODULES = {"csv": "csv_file", "mlflow": "mlflow_run", "wandb": "wandb_run"}


class Logger(EventWriter):
    """Write the metrics of each iteration that has new ones, as metrics.json has them.

    A service that fails ends no training: a warning says so, and nothing more is written to it.

    Args:
        folder: the `OUTPUT_DIR`.
    """

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last = -1
        self._fails = False

    @abstractmethod
    def open(self, resumed: bool) -> None:
        """Begin a run, or go on with the one that the folder names.

        Args:
            resumed: whether the training goes on from a checkpoint.
        """

    @abstractmethod
    def log(self, iteration: int, values: dict[str, float]) -> None:
        """Write the metrics of an iteration, counted from 0."""

    def log_picture(self, iteration: int, name: str, picture: np.ndarray) -> None:
        """Write a picture, uint8 [3, H, W], RGB; by default it is left out."""

    def write(self) -> None:
        """Write what is new in the storage."""
        if self._fails:
            return
        storage = get_event_storage()
        new: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, iteration) in storage.latest_with_smoothing_hint(_SMOOTHED).items():
            if iteration > self._last:
                new[iteration][name] = float(value)
        try:
            for iteration in sorted(new):
                self.log(iteration, new[iteration])
            for name, picture, iteration in storage._vis_data:
                self.log_picture(iteration, name, picture)
        except Exception as error:
            self._fails = True
            logger.warning(f"{self.name}: {first_line(error)}. Nothing more is written to it.")
        self._last = max([self._last, *new])


class PicturesForgotten(EventWriter):
    """Drop the pictures that only TensorBoard's writer would take out of the storage."""

    def write(self) -> None:
        """Drop them; the other writers have had them."""
        storage = get_event_storage()
        storage.clear_images()
        storage.clear_histograms()


def build_loggers(names: Iterable[str], folder: str) -> list[EventWriter]:
    """Return the writers of `OUTPUT.LOGGERS`, of which none is open yet.

    Args:
        names: those of the key.
        folder: the `OUTPUT_DIR`.

    Raises:
        ConfigError: a package is not installed.
    """
    names = list(names)
    check_installed(names)
    writers: list[EventWriter] = []
    for name in names:
        if name in _MODULES:
            module: Any = importlib.import_module(f".{_MODULES[name]}", __package__)
            writers.append(module.build(Path(folder)))
    # The last one: it takes the pictures out of the storage.
    if "tensorboard" in names and _has_utf8_name(folder):
        return [*writers, TensorboardXWriter(folder)]
    return [*writers, PicturesForgotten()]


def _has_utf8_name(folder: str) -> bool:
    try:
        folder.encode()
    except UnicodeEncodeError:
        logger.warning(f"OUTPUT_DIR {folder!a} is not UTF-8: no file of TensorBoard's there.")
        return False
    return True


def open_loggers(hooks: Iterable[HookBase], resumed: bool) -> None:
    """Begin the runs of loggers before the first iteration.

    Args:
        hooks: those of a trainer.
        resumed: whether the training goes on from a checkpoint.

    Raises:
        ConfigError: a service refuses, for instance since nobody is logged in.
    """
    periodic = [hook for hook in hooks if isinstance(hook, PeriodicWriter)]
    for writer in (writer for hook in periodic for writer in hook._writers):
        if isinstance(writer, Logger):
            try:
                writer.open(resumed)
            except Exception as error:
                raise ConfigError(
                    f"OUTPUT.LOGGERS: {writer.name} can't begin ({first_line(error)}). Set it up "
                    "(docs/report.md#loggers), or leave it out."
                ) from error


def read_run_id(path: Path, resumed: bool) -> str | None:
    """Return the id of the run that a file of the folder names, None for a new run."""
    if not resumed or not os.path.isfile(path):
        return None
    return path.read_text(encoding="utf-8").strip() or None
