"""Signals that ask a program to end: once, by way of an exception; twice, at once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, Self

# Ctrl-C; kill, and what SLURM and Docker send; sbatch --signal=USR1@120.
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]


class Stopped(SystemExit, KeyboardInterrupt):
    """A signal has ended the program; the exit status is 128 + its number, as a shell has it.

    Whoever ends something well at Ctrl-C does so for the other signals, too.

    Args:
        number: of the signal.
        state: what there is, as the rest of a sentence.
        agreed: whether all processes of a run end here.

    Attributes:
        is_told: whether it was printed.
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
    """Within it, `handle` is called for the signals that ask to end.

    In another thread than the main one, which is sent none, nothing changes.
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


class Signals:
    """Within `with`, the first signal raises `Stopped`, and the second ends the process.

    Attributes:
        asked: the number of the first, or 0.
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
    """End this process in one line, without anything that could wait."""
    name = signal.Signals(number).name
    os.write(2, f"Stopped at once by {name}: {state}\n".encode())
    os._exit(128 + number)
