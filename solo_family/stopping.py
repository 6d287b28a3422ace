"""Signals that end a program: the first raises an exception, the second ends it at once."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, Self

# Ctrl-C; `kill`, SLURM and Docker; `sbatch --signal=USR1@120`.
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]


class Stopped(SystemExit, KeyboardInterrupt):
    """A signal has ended the program; the exit status is 128 plus its number, as in a shell.

    It is a KeyboardInterrupt, so that code which handles Ctrl-C handles the other signals, too.

    Args:
        number: of the signal.
        state: the state of the results, as the second half of the message.
        agreed: whether all processes of a run end at this point.

    Attributes:
        is_told: whether the message was printed.
    """

    def __init__(
        self, number: int, state: str = "files that are written are whole.", *, agreed: bool = False
    ) -> None:
        super().__init__(128 + number)
        self.number = number
        self.state = state
        self.agreed = agreed
        self.is_told = False

    def __str__(self) -> str:
        return f"Stopped by {signal.Signals(self.number).name}: {self.state}"


@contextmanager
def handling(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call `handle` for the signals that end a program, in the `with` block.

    In a thread other than the main one nothing changes, because Python handles signals in the main
    thread only.

    Args:
        handle: called with the signal's number and the current frame.
    """
    try:
        before = [(number, signal.signal(number, handle)) for number in SIGNALS]
    except ValueError:
        before = []
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@contextmanager
def signals_blocked(numbers: Iterable[int] = tuple(SIGNALS)) -> Iterator[None]:
    """Block signals in the `with` block, by default those that end a program.

    They arrive when it ends. A process that is started in the block has them blocked until it
    calls `unblock_signals`, when it has decided how to handle them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_signals(numbers: Iterable[int] = tuple(SIGNALS)) -> None:
    """Let signals arrive, by default those that end a program; blocked ones arrive now."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


class Signals:
    """Raise `Stopped` at the first signal in the `with` block, and end the process at the second.

    Attributes:
        asked: the number of the first signal, or 0.
    """

    def __init__(self) -> None:
        self.asked = 0

    def __enter__(self) -> Self:
        self._handling = handling(self._handle)
        self._handling.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._handling.__exit__(*error)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.asked:
            end_at_once(number)
        self.asked = number
        raise Stopped(number)


def end_at_once(number: int, state: str = "files that are written are whole.") -> NoReturn:
    """Print one line and end this process, without cleaning up, which might block.

    Args:
        number: of the signal, which determines the exit status.
        state: the state of the results, as the second half of the line.
    """
    name = signal.Signals(number).name
    os.write(2, f"Stopped at once by {name}: {state}\n".encode())
    os._exit(128 + number)
