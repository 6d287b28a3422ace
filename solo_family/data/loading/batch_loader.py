"""A data loader whose worker processes load batches in advance, and which never hangs.

torch's DataLoader passes tensors through files in /dev/shm, which is 64 MB in a container by
default, and through threads whose errors nobody sees; if either fails, the batch never arrives.
This loader passes batches through shared memory without files, or as bytes if the system gives no
such memory. Each worker has its own pair of sockets, which the system closes however the worker
ends, and each batch has a deadline.
"""

import logging
import multiprocessing
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sized
from multiprocessing.util import Finalize
from typing import Any, cast

from ...errors import TrainingError
from ...faults import NO_MEMORY, dead_worker, no_more_processes
from .shared_slots import SharedSlots
from .watchdog import LOOK, Waited, Watchdog
from .wire import places, unpack
from .worker import Failure, Worker, read_head

logger = logging.getLogger(__name__)

_AHEAD = 2  # batches requested from each worker before they are needed
_IN_USE = 3  # batches that the trainer may hold: the current, the previous, one being read
_STACK_TIME = 1.0  # seconds that a worker has to write its traceback


class BatchLoader:
    """Iterate over batches, in the order of `batches` whatever the number of workers.

    Args:
        dataset: maps a key to an item.
        batches: lists of keys; each iteration of the loader iterates over it again.
        num_workers: number of worker processes; 0 loads in this process, on demand.
        timeout: seconds to wait for a batch before an error is raised; 0 waits forever.
    """

    def __init__(
        self,
        dataset: Any,
        batches: Iterable[list[Any]],
        *,
        num_workers: int = 0,
        timeout: float = 0.0,
    ) -> None:
        self.dataset = dataset
        self.batches = batches
        self.num_workers = num_workers
        self.timeout = timeout

    def __len__(self) -> int:
        return len(cast(Sized, self.batches))

    def __iter__(self) -> Iterator[list[Any]]:
        """Yield batches: lists of items.

        Raises:
            SoloFamilyError: the dataset raised it.
            TrainingError: a worker has died, its batch has not arrived in time, or the dataset
                raised an error of another type in a worker.
            MemoryError: a worker ran out of memory.
        """
        if self.num_workers:
            try:
                workers = _Workers(self.dataset, self.num_workers, self.timeout)
            except OSError as error:
                logger.warning(no_more_processes(error))
            else:
                try:
                    yield from workers.load(self.batches)
                finally:
                    workers.close()
                return
        for keys in self.batches:
            with Watchdog(self.timeout, "Loading a batch, in this process,"):
                batch = [self.dataset[key] for key in keys]
            yield batch


class _Workers:
    """The workers of one iteration; worker n modulo their number loads batch n."""

    def __init__(self, dataset: Any, count: int, timeout: float) -> None:
        self._timeout = timeout
        self._workers: list[Worker] = []
        # At the exit of this process, end the workers before multiprocessing waits for them.
        self._finalizer = Finalize(self, _close_all, (self._workers,), exitpriority=100)
        # The processes of several GPUs are spawned, and a spawned process spawns by default: each
        # worker would import everything again.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
        self._slots = None
        if context.get_start_method() == "fork":
            self._slots = _slots(count)
        try:
            for _ in range(count):
                self._workers.append(Worker(context, dataset, self._slots))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """End the workers."""
        self._finalizer()

    def load(self, batches: Iterable[list[Any]]) -> Iterator[list[Any]]:
        keys = iter(batches)
        asked: deque[tuple[Worker, int | None]] = deque()
        for number in range(_AHEAD * len(self._workers)):
            self._ask(number, keys, asked)
        number = len(asked)
        while asked:
            worker, slot = asked.popleft()
            value = self._receive(worker, slot)
            self._ask(number, keys, asked)
            number += 1
            yield value

    def _ask(self, number: int, keys: Iterator[list[Any]], asked: deque[Any]) -> None:
        wanted = next(keys, None)
        if wanted is None:
            return
        worker = self._workers[number % len(self._workers)]
        slot = self._slots.take() if self._slots is not None else None
        try:
            worker.request(wanted, slot)
        except OSError:
            self._check_alive(certainly=worker)
        asked.append((worker, slot))

    def _receive(self, worker: Worker, slot: int | None) -> list[Any]:
        self._check_alive()
        reader = _Reader(self, worker, self._timeout)
        structure, sizes, used = read_head(reader.read)
        if used is None:
            buffers: list[Any] = [reader.read(size) for size in sizes]
            if slot is not None and self._slots is not None:
                self._slots.give_back(slot)
        else:
            assert self._slots is not None
            buffers = list(self._slots.read(used, sizes, places(sizes)[0]))
        value = unpack(structure, buffers)
        if isinstance(value, Failure):
            _raise(value, worker)
        return value

    def _check_alive(self, certainly: Worker | None = None) -> None:
        """Raise TrainingError if a worker has ended; `certainly` is known to have ended."""
        if certainly is not None:
            certainly.process.join(LOOK)
        dead = [worker.process for worker in self._workers if not worker.process.is_alive()]
        if dead:
            raise dead_worker([p.pid or 0 for p in dead], dead[0].exitcode)
        if certainly is not None:
            raise dead_worker([certainly.process.pid or 0], None)

    def wait(self, worker: Worker, waited: float) -> None:
        """Check the workers and the deadline; called every second while a batch is missing.

        Args:
            worker: the one that the batch was requested from.
            waited: seconds so far.

        Raises:
            TrainingError: a worker has died, or the batch is late.
        """
        self._check_alive()
        if self._timeout and waited > self._timeout:
            stack = worker.stack(lambda: time.sleep(_STACK_TIME))
            raise TrainingError(
                f"A worker process of the data loader, {worker.process.pid}, has not loaded its "
                f"batch in {waited:.0f} s (DATALOADER.TIMEOUT {self._timeout:g}). Check whether a "
                "disk or a network drive hangs; a larger DATALOADER.TIMEOUT waits longer, and 0 "
                "waits forever. --resume goes on from the last checkpoint. The worker is at "
                f"{_innermost(stack)}"
            ) from WorkerTraceback(stack)


class _Reader:
    """Read from a worker, until the batch's deadline."""

    def __init__(self, workers: _Workers, worker: Worker, timeout: float) -> None:
        self._workers = workers
        self._worker = worker
        self._waited = Waited()
        self._worker.channel.settimeout(min(LOOK, timeout) if timeout else LOOK)

    def read(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            try:
                count = self._worker.channel.recv_into(view)
            except TimeoutError:
                self._workers.wait(self._worker, self._waited.seconds())
                continue
            except OSError:
                count = 0
            if not count:
                self._workers._check_alive(certainly=self._worker)
            view = view[count:]
        return data


class WorkerTraceback(Exception):
    """The traceback of a worker, shown as the cause of an error in this process."""

    def __str__(self) -> str:
        return "\n" + super().__str__()


def _raise(failure: Failure, worker: Worker) -> None:
    cause = WorkerTraceback(failure.trace)
    if failure.error is not None:
        raise failure.error from cause
    text = f"{failure.kind}: {failure.message}"
    if failure.kind.startswith("MemoryError") or NO_MEMORY.search(failure.message):
        raise MemoryError(text) from cause
    raise TrainingError(
        f"A worker process of the data loader, {worker.process.pid}, failed: "
        f"{' '.join(text.split())}. Run with DATALOADER.NUM_WORKERS 0 to see the traceback."
    ) from cause


def _slots(num_workers: int) -> SharedSlots | None:
    count = num_workers * _AHEAD + _IN_USE
    for megabytes in (1024, 256, 64):
        try:
            return SharedSlots(count, megabytes * 2**20)
        except (OSError, ValueError):
            continue
    logger.warning(
        "The system gives no shared memory (ulimit -v is set, or vm.overcommit_memory is 2), so "
        "the data loader's workers send batches as bytes, which is slower."
    )
    return None


def _innermost(stack: str) -> str:
    """Return the innermost frame of the main thread, which is last in a faulthandler traceback."""
    threads = [part for part in stack.split("\n\n") if "File " in part]
    lines = [line.strip() for line in (threads[-1] if threads else "").splitlines()]
    frames = [line for line in lines if line.startswith("File ")]
    return f"{frames[0]}." if frames else "an unknown place: it wrote no traceback."


def _close_all(workers: list[Worker]) -> None:
    for worker in workers:
        worker.close()
    workers.clear()
