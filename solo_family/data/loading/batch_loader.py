"""Loads batches ahead in other processes, and never waits for one without an end.

torch's DataLoader hands tensors over in files of /dev/shm, of which a container has 64 MB, and
through threads whose errors reach nobody: where either fails, the batch never comes. Here batches
lie in memory that the processes share without files, or come as bytes where that is not to be had;
each worker has a pair of sockets of its own, which is closed however it ends; and a deadline.
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

_AHEAD = 2  # batches that each worker is asked for before they are needed
_IN_USE = 3  # batches that the trainer may keep: this one, the one before, one that is being read
_STACK_TIME = 1.0  # seconds that a worker has to tell what it is doing


class BatchLoader:
    """An iterable of batches, in the order of `batches` whatever the number of workers.

    Args:
        dataset: maps a key to an item.
        batches: lists of keys; iterated anew each time that this is.
        num_workers: processes that load; with 0 it is done here, when a batch is asked for.
        timeout: seconds after which a batch that does not come ends the run; 0 waits for ever.
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
            SoloFamilyError: a worker has died or its batch does not come; one of ours, as the
                dataset raised it.
            TrainingError: the dataset raised another error, in a worker.
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
    """The workers of one iteration; batch n is that of worker n mod their number."""

    def __init__(self, dataset: Any, count: int, timeout: float) -> None:
        self._timeout = timeout
        self._workers: list[Worker] = []
        # Runs before multiprocessing waits for its processes at the end of this one.
        self._finalizer = Finalize(self, _close_all, (self._workers,), exitpriority=100)
        # In a process that was spawned, as those of several GPUs, the default is to spawn, too:
        # each worker would then import everything anew.
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
        """Raise TrainingError where a worker is gone, `certainly` among them."""
        if certainly is not None:
            certainly.process.join(LOOK)
        dead = [worker.process for worker in self._workers if not worker.process.is_alive()]
        if dead:
            raise dead_worker([p.pid or 0 for p in dead], dead[0].exitcode)
        if certainly is not None:
            raise dead_worker([certainly.process.pid or 0], None)

    def wait(self, worker: Worker, waited: float) -> None:
        """Is called every second that a batch has not come in.

        Args:
            worker: that is asked for it.
            waited: seconds so far.
        """
        self._check_alive()
        if self._timeout and waited > self._timeout:
            stack = worker.stack(lambda: time.sleep(_STACK_TIME))
            raise TrainingError(
                f"A worker process of the data loader, {worker.process.pid}, has not loaded its "
                f"batch in {waited:.0f} s (DATALOADER.TIMEOUT {self._timeout:g}). Is a disk or a "
                "network drive stuck? 0 waits without an end. --resume goes on from the last "
                f"checkpoint. It is at {_innermost(stack)}"
            ) from WorkerTraceback(stack)


class _Reader:
    """Reads from a worker until its deadline."""

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
    """What happened in a worker, as the cause of an error here."""

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
        f"{' '.join(text.split())}. DATALOADER.NUM_WORKERS 0 shows its traceback."
    ) from cause


def _slots(num_workers: int) -> SharedSlots | None:
    count = num_workers * _AHEAD + _IN_USE
    for megabytes in (1024, 256, 64):
        try:
            return SharedSlots(count, megabytes * 2**20)
        except (OSError, ValueError):
            continue
    logger.warning(
        "There is no memory for processes to share (a limit of ulimit -v, or vm.overcommit_memory "
        "2), so the data loader's workers send batches as bytes, which takes longer."
    )
    return None


def _innermost(stack: str) -> str:
    """Return the place of a faulthandler's traceback that a thread is at, the main one's last."""
    threads = [part for part in stack.split("\n\n") if "File " in part]
    lines = [line.strip() for line in (threads[-1] if threads else "").splitlines()]
    frames = [line for line in lines if line.startswith("File ")]
    return f"{frames[0]}." if frames else "a place that it does not tell."


def _close_all(workers: list[Worker]) -> None:
    for worker in workers:
        worker.close()
    workers.clear()
