"""The engine that predicts on a Ray cluster, by Ray Data.

Reading tasks hand pictures to actors, each of which keeps a model. Ray repeats what a process was
doing that ended, and starts another one.
"""

import argparse
import logging
import os
import signal
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import SoloFamilyError, first_line
from .model import Description
from .processes import Actor, Box, Reader, rows_of
from .worker import Chunk

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

# How often Ray repeats the work of a process that ended, before its pictures are done one by one.
_RETRIES = 3
# Of a logical CPU: a worker computes with one thread, and what it leaves is for reading.
_CPU = 0.5
# Blocks of Ray Data, each with one chunk or more; it keeps a list of all.
_MOST_BLOCKS = 4096
_SECONDS = 10.0  # in which a cluster must answer


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

    def __call__(self, chunks: Sequence[Chunk]) -> Iterator["pa.Table"]:
        """Yield the rows of the pictures of each chunk, in any order.

        Those of a process that ended again and again are missing.

        Raises:
            SoloFamilyError: a worker can't open the model.
        """
        from ray.data import ActorPoolStrategy, from_items

        folder = Path.cwd()
        rows = [{"chunk": Box(chunk)} for chunk in chunks]
        dataset = from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS))
        every: dict[str, Any] = {"batch_size": None, "batch_format": "numpy"}
        reader = Reader(self._description, folder)
        dataset = _with_retries(
            dataset.map_batches, {"max_retries": _RETRIES}, reader, num_cpus=_CPU, **every
        )
        dataset = _with_retries(
            dataset.map_batches,
            {"max_restarts": -1, "max_task_retries": _RETRIES},
            Actor,
            fn_constructor_args=(
                self._worker_args(),
                self._description,
                folder,
                int(not self._has_gpus),
            ),
            compute=ActorPoolStrategy(size=min(self._workers, len(rows))),
            num_cpus=_CPU,
            num_gpus=int(self._has_gpus),
            **every,
        )
        for batch in dataset.iter_batches(**every, prefetch_batches=0):
            for box in batch["rows"]:
                yield rows_of(box.content)

    def _worker_args(self) -> argparse.Namespace:
        """Return the flags for workers, each of which sees one GPU, under the first number."""
        if not self._has_gpus or ":" not in self._description.device:
            return self._args
        opts = [*self._args.opts, "MODEL.DEVICE", "cuda"]
        return argparse.Namespace(**(vars(self._args) | {"opts": opts}))


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


def _may_use_gpus(args: argparse.Namespace) -> bool:
    given = dict(zip(args.opts[::2], args.opts[1::2]))
    return args.exported is None and given.get("MODEL.DEVICE", "cuda") != "cpu"


def _check_reachable(address: str) -> None:
    """Raise an OSError where nothing listens at an address HOST:PORT; Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS).close()


def _known_address() -> str:
    """Return the address that Ray takes where none is given; "" if it starts a cluster then."""
    last = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    known = last.read_text(encoding="utf-8") if last.is_file() else ""
    return os.environ.get("RAY_ADDRESS") or known.strip()


def _connect(address: str | None) -> None:
    """Join a cluster, or start one on this machine."""
    # Ray tells its makers of its use by default.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What a user should know, this package says.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    from ray.data import DataContext

    before = signal.getsignal(signal.SIGTERM)
    place = address or _known_address()
    try:
        _check_reachable(place)
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise SoloFamilyError(
            f"There is no Ray cluster at {place or 'this machine'} ({first_line(error)}). Start "
            "one with `ray start --head`; `ray stop` forgets one that was killed, and without "
            "--address this machine alone is used then. If it asks for a token, set "
            "RAY_AUTH_MODE=token."
        ) from error
    finally:
        signal.signal(signal.SIGTERM, before)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
