"""The engine that predicts on a Ray cluster, by Ray Data.

Reading tasks hand pictures to actors, each of which keeps a model. Ray repeats what a process was
doing that ended, and starts another one.
"""

import argparse
import logging
import os
import signal
import socket
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import SoloFamilyError, first_line
from .model import Description
from .worker import Chunk, Worker, read_chunk

logger = logging.getLogger(__name__)

# How often Ray repeats the work of a process that ended, before its pictures are done one by one.
_RETRIES = 3
# Of a logical CPU: a worker computes with one thread, and what it leaves is for reading.
_CPU = 0.5
# Blocks of Ray Data, each with one chunk or more; it keeps a list of all.
_MOST_BLOCKS = 4096
_SECONDS = 10.0  # in which a cluster must answer


@dataclass(frozen=True)
class _Box:
    """What a cell of a table of Ray Data holds; without it lists become columns of Arrow."""

    content: Any


@dataclass(frozen=True)
class _Failure:
    """Why a worker can't do its work.

    Attributes:
        text: of the error.
        is_told: whether the text is all that a user needs.
    """

    text: str
    is_told: bool


def _failure(error: Exception) -> _Failure:
    if isinstance(error, SoloFamilyError):
        return _Failure(str(error), is_told=True)
    return _Failure("".join(traceback.format_exception(error)), is_told=False)


def _column(name: str, content: Any) -> dict[str, np.ndarray]:
    cells = np.empty(1, object)
    cells[0] = _Box(content)
    return {name: cells}


class _Reader:
    """Read the pictures of chunks; Ray calls it in any process."""

    def __init__(self, description: Description, folder: Path) -> None:
        self._reading = description.reading
        self._folder = folder

    def __call__(self, batch: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        _enter(self._folder)
        for chunk in batch["chunk"]:
            for items in read_chunk(chunk.content, self._reading):
                yield _column("items", items)


class _Actor:
    """A worker in a process of its own.

    An error is part of its answers: those that Ray sees are of processes that ended.
    """

    def __init__(
        self, args: argparse.Namespace, description: Description, folder: Path, threads: int
    ) -> None:
        _enter(folder)
        self._worker: Worker | _Failure
        try:
            self._worker = Worker(args, description, threads)
        except Exception as error:
            self._worker = _failure(error)

    def __call__(self, batch: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        for items in batch["items"]:
            yield _column("rows", self._rows(items.content))

    def _rows(self, items: Any) -> pa.Table | _Failure:
        if isinstance(self._worker, _Failure):
            return self._worker
        try:
            return self._worker(items)
        except Exception as error:
            return _failure(error)


def _enter(folder: Path) -> None:
    """Make relative paths those of the first process, where its folder is on this machine too."""
    if folder.is_dir():
        os.chdir(folder)


class Cluster:
    """Predict on a Ray cluster; use it as a context manager.

    Args:
        args: the verb's flags.
        description: of the model.

    Raises:
        SoloFamilyError: there is no such cluster.
    """

    def __init__(self, args: argparse.Namespace, description: Description) -> None:
        self._args = args
        self._description = description
        _connect(args.address)
        import ray

        self._ray = ray
        resources = ray.cluster_resources()
        self._has_gpus = resources.get("GPU", 0) >= 1 and _may_use_gpus(args)
        unit = "GPU" if self._has_gpus else "CPU"
        self._workers = args.workers or max(1, int(resources.get(unit, 1)))
        wanted = _CPU * (self._workers + 1)  # one reads
        if wanted > resources.get("CPU", 0):
            logger.warning(
                f"The cluster has {resources.get('CPU', 0):g} CPUs, and {self._workers} workers "
                f"with the reading need {wanted:g}: Ray waits until it has more. --workers N takes "
                "fewer."
            )

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def __call__(self, chunks: Sequence[Chunk]) -> Iterator[pa.Table]:
        """Yield the rows of the pictures of each chunk, in any order.

        Those of a process that ended again and again are missing.

        Raises:
            SoloFamilyError: a worker can't open the model.
        """
        from ray.data import ActorPoolStrategy, from_items

        folder = Path.cwd()
        rows = [{"chunk": _Box(chunk)} for chunk in chunks]
        dataset = from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS))
        every: dict[str, Any] = {"batch_size": None, "batch_format": "numpy"}
        reader = _Reader(self._description, folder)
        dataset = _with_retries(
            dataset.map_batches, {"max_retries": _RETRIES}, reader, num_cpus=_CPU, **every
        )
        dataset = _with_retries(
            dataset.map_batches,
            {"max_restarts": -1, "max_task_retries": _RETRIES},
            _Actor,
            fn_constructor_args=(self._args, self._description, folder, int(not self._has_gpus)),
            compute=ActorPoolStrategy(size=min(self._workers, len(rows))),
            num_cpus=_CPU,
            num_gpus=int(self._has_gpus),
            **every,
        )
        for batch in dataset.iter_batches(**every, prefetch_batches=0):
            for box in batch["rows"]:
                yield _rows_of(box.content)


def _with_retries(
    map_batches: Callable[..., Any], retries: dict[str, int], *args: Any, **options: Any
) -> Any:
    """Call a dataset's method with limits of how often Ray repeats what a process was doing.

    Ray Data announces versions without these arguments; they repeat it without end.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*ray_remote_args.*")
        try:
            return map_batches(*args, **options, **retries)
        except TypeError:
            return map_batches(*args, **options)


def _rows_of(answer: pa.Table | _Failure) -> pa.Table:
    if not isinstance(answer, _Failure):
        return answer
    if answer.is_told:
        raise SoloFamilyError(answer.text)
    raise RuntimeError(f"A worker has met an error:\n{answer.text}")


def _may_use_gpus(args: argparse.Namespace) -> bool:
    given = dict(zip(args.opts[::2], args.opts[1::2]))
    return args.exported is None and given.get("MODEL.DEVICE", "cuda") != "cpu"


def _check_reachable(address: str | None) -> None:
    """Raise an OSError where nothing listens at an address HOST:PORT; Ray would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS).close()


def _connect(address: str | None) -> None:
    """Join a cluster, or start one on this machine."""
    # Ray tells its makers of its use by default.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What a user should know, this package says.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    from ray.data import DataContext

    before = signal.getsignal(signal.SIGTERM)
    try:
        _check_reachable(address)
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise SoloFamilyError(
            f"There is no Ray cluster at {address or 'this machine'} ({first_line(error)}). Start "
            "one with `ray start --head`, or leave --address out to use this machine alone. If it "
            "asks for a token, set RAY_AUTH_MODE=token."
        ) from error
    finally:
        signal.signal(signal.SIGTERM, before)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
