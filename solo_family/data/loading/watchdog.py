"""Ends a wait of this process that has no end, and names the place where it is stuck."""

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

TIMEOUT = 600.0  # seconds: that of DATALOADER.TIMEOUT, where there is no configuration
_GRACE = 5.0  # seconds in which what is stuck can be interrupted
LOOK = 1.0  # seconds between looks


class Waited:
    """How long something has taken, asked for about every second.

    A longer time between two questions is one in which this process was stopped, as by Ctrl-Z, or
    the machine slept: of it two seconds count.
    """

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._seconds = 0.0

    def seconds(self) -> float:
        """Return the time since the beginning."""
        now = time.monotonic()
        self._seconds += min(now - self._last, 2 * LOOK)
        self._last = now
        return self._seconds


class Watchdog:
    """Within `with`, the process may not take longer than `timeout` for one thing.

    After that the main thread is interrupted: TrainingError is raised where it is. What can't be
    interrupted, as a read from a network drive, is ended with the process, in one line and with
    status 2. Time in which the process was stopped (Ctrl-Z) does not count.

    In other threads than the main one, and within another watchdog, it does nothing. Nor can it do
    anything about compiled code that lets no other thread of Python's run.

    Args:
        timeout: seconds; with 0 it does nothing.
        what: is waited for, as the beginning of a sentence.
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
        with suppress(RuntimeError):  # no more threads are allowed: then nothing watches
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
        """Begin to wait anew, for the next thing."""
        self._waited = Waited()

    @property
    def _error(self) -> TrainingError:
        return TrainingError(
            f"{self._what} has taken more than {self._timeout:g} s (DATALOADER.TIMEOUT). Is a disk "
            "or a network drive stuck? 0 waits without an end. It is at "
            f"{self._place or 'a place that it does not tell.'}"
        )

    def _watch(self, watched: int) -> None:
        """Is the thread: bites once."""
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
    """Yield the items, and watch how long each takes until the next is asked for.

    Args:
        items: to go through.
        what: each is, for instance "An image".
        timeout: see `Watchdog`.

    Raises:
        TrainingError: one takes too long.
    """
    with Watchdog(timeout, what) as watchdog:
        for item in items:
            watchdog.reset()
            yield item


def _place(frame: FrameType | None) -> str:
    if frame is None:
        return ""
    return f'File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}.'
