"""A time limit for operations of this process that may hang, with an error that names the place."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any, Self, TypeVar

from ...errors import TrainingError

T = TypeVar("T")

TIMEOUT = 600.0  # seconds: the default of DATALOADER.TIMEOUT, for use without a configuration
_GRACE = 5.0  # seconds that an interrupted operation has to end before the process is killed
LOOK = 1.0  # seconds between checks


class Waited:
    """A clock that does not count time in which the process was stopped, or the machine slept.

    It must be read about every second. Of a longer time between two readings, two seconds count.
    """

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._seconds = 0.0

    def seconds(self) -> float:
        """Return the seconds since the clock was made."""
        now = time.monotonic()
        self._seconds += min(now - self._last, 2 * LOOK)
        self._last = now
        return self._seconds


class Watchdog:
    """Limit the time that one operation may take in the `with` block.

    After `timeout` seconds the main thread is interrupted by a TrainingError. If the operation
    can't be interrupted, as a read from a network drive, the process prints the error in one line
    and exits with status 2. Time in which the process was stopped (Ctrl-Z) does not count.

    The watchdog does nothing in a thread other than the main one, or inside another watchdog. It
    can't interrupt compiled code that does not release Python's global interpreter lock.

    Args:
        timeout: in seconds; 0 sets no limit.
        what: the operation, as the beginning of the error message.
    """

    _is_active = False

    def __init__(self, timeout: float, what: str) -> None:
        self._timeout = timeout
        self._what = what
        self._waited = Waited()
        self._place = ""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._before: Any = None

    def __enter__(self) -> Self:
        is_main = threading.current_thread() is threading.main_thread()
        if not self._timeout or not is_main or Watchdog._is_active:
            return self
        self.reset()
        thread = threading.Thread(target=self._watch, args=(threading.get_ident(),), daemon=True)
        with suppress(RuntimeError):  # the system allows no more threads, so there is no limit
            thread.start()
            self._thread, Watchdog._is_active = thread, True
            if hasattr(signal, "SIGALRM"):
                before = signal.signal(signal.SIGALRM, self._interrupt)
                self._before = signal.SIG_DFL if before is None else before
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            return
        try:
            with self._lock:
                self._over.set()
        finally:
            self._over.set()
            Watchdog._is_active = False
            if self._before is not None:
                signal.signal(signal.SIGALRM, self._before)

    def reset(self) -> None:
        """Restart the clock, for the next operation."""
        self._waited = Waited()

    @property
    def _error(self) -> TrainingError:
        return TrainingError(
            f"{self._what} has taken more than {self._timeout:g} s (DATALOADER.TIMEOUT). Check "
            "whether a disk or a network drive hangs; a larger DATALOADER.TIMEOUT waits longer, "
            f"and 0 waits forever. The process is at {self._place or 'an unknown place.'}"
        )

    def _watch(self, watched: int) -> None:
        """Wait for the timeout, and interrupt or end the process: the watching thread's function.

        Args:
            watched: identifier of the thread that is watched.
        """
        while self._waited.seconds() < self._timeout:
            if self._over.wait(min(LOOK, self._timeout / 4)):
                return
        with self._lock:
            if self._over.is_set():
                return
            frame = sys._current_frames().get(watched)
            self._place = _place(frame)
            if self._before is not None:
                signal.pthread_kill(watched, signal.SIGALRM)
        if not self._over.wait(_GRACE):
            os.write(2, f"error: {self._error}\n".encode(errors="backslashreplace"))
            os._exit(2)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._place:
            raise self._error


def watched(items: Iterable[T], what: str, timeout: float) -> Iterator[T]:
    """Yield items, and limit the time that the caller spends on each.

    Args:
        items: the items.
        what: what an item is, for the error message, for instance "An image".
        timeout: in seconds; see `Watchdog`.

    Raises:
        TrainingError: an item has taken too long.
    """
    with Watchdog(timeout, what) as watchdog:
        for item in items:
            watchdog.reset()
            yield item


def _place(frame: FrameType | None) -> str:
    if frame is None:
        return ""
    return f'File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}.'
