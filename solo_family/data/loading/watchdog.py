"""A time limit for operations of this process that may hang, with an error that names the place."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, Self, TypeVar

from ...errors import TrainingError

T = TypeVar("T")

TIMEOUT = 600.0  # seconds: the default of DATALOADER.TIMEOUT, for use without a configuration
_GRACE = 5.0  # seconds that an interrupted operation has to end before the process is killed
_LATE = 0.1  # seconds that a signal takes at most to arrive
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

    # The one that limits this process now, and the process whose thread looks after it. Neither is
    # guarded by a lock: a signal that ends the program raises an exception at any place, and a
    # lock that it left behind would let the program hang.
    _current: "Watchdog | None" = None
    _watched_process = 0

    def __init__(self, timeout: float, what: str) -> None:
        self._timeout = timeout
        self._what = what
        self._waited = Waited()
        self._place = ""
        self._before: Any = None

    def __enter__(self) -> Self:
        is_main = threading.current_thread() is threading.main_thread()
        if not self._timeout or not is_main or Watchdog._current is not None:
            return self
        if not _watching():
            return self
        if hasattr(signal, "SIGALRM"):
            before = signal.signal(signal.SIGALRM, self._interrupt)
            self._before = signal.SIG_DFL if before is None else before
        self.reset()
        Watchdog._current = self
        return self

    def __exit__(self, *_: object) -> None:
        if Watchdog._current is not self:
            return
        Watchdog._current = None
        if self._place:
            time.sleep(_LATE)  # the signal may be on its way
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

    def _end(self) -> None:
        """Interrupt the main thread, and end the process if it goes on: the watching thread's."""
        main = threading.main_thread().ident
        assert main is not None
        self._place = _place(sys._current_frames().get(main)) or "an unknown place."
        if Watchdog._current is self and self._before is not None:
            signal.pthread_kill(main, signal.SIGALRM)
        end = time.monotonic() + _GRACE
        while time.monotonic() < end:
            if Watchdog._current is not self:
                return
            time.sleep(min(_GRACE, LOOK) / 20)
        os.write(2, f"error: {self._error}\n".encode(errors="backslashreplace"))
        os._exit(2)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._place:
            raise self._error


def _watching() -> bool:
    """Start the thread that watches this process, unless it runs; return whether there is one."""
    if Watchdog._watched_process == os.getpid():
        return True
    try:
        threading.Thread(target=_watch, name="watchdog", daemon=True).start()
    except RuntimeError:  # the system allows no more threads, so there is no limit
        return False
    Watchdog._watched_process = os.getpid()
    return True


def _watch() -> None:
    """Look at the current watchdog every second, for ever."""
    while True:
        dog = Watchdog._current
        time.sleep(LOOK if dog is None else min(LOOK, dog._timeout / 4))
        if dog is None or dog is not Watchdog._current:
            continue
        if dog._waited.seconds() >= dog._timeout:
            dog._end()


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
