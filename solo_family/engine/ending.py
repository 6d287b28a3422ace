"""What signals ask of a run: once, to end well; twice, to end at once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import torch
import torch.distributed as dist
from detectron2.utils import comm

# Ctrl-C; kill, and what SLURM and Docker send; sbatch --signal=USR1@120.
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]


class Stopped(SystemExit):
    """A signal has ended a run; the exit status is 128 + its number, as a shell has it.

    Args:
        number: of the signal.
        state: what there is of the run, as the rest of a sentence.
        agreed: whether all processes of the run end here.
    """

    def __init__(
        self,
        number: int,
        state: str = "nothing was finished that a run could go on from.",
        *,
        agreed: bool = False,
    ) -> None:
        super().__init__(128 + number)
        self.number = number
        self.state = state
        self.agreed = agreed

    def __str__(self) -> str:
        return f"Stopped by {signal.Signals(self.number).name}: {self.state}"


class Ending:
    """Whether this process was asked to end.

    Attributes:
        asked: the number of the first signal, or 0.
        deferred: in the middle of something that is finished first.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.deferred = False
        self._is_led = False

    @contextmanager
    def listening(self, *, is_led: bool = False) -> Iterator[None]:
        """Within it, signals end this process by way of `Stopped`; not in other threads than the
        main one, which can't be sent any.

        Args:
            is_led: another process started this one. It counts the signals, passes them on, and
                ends this one at the second.
        """
        self.asked, self.deferred, self._is_led = 0, False, is_led
        with handling(self._handle):
            yield

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it, nothing is finished first, but the first signal ends it."""
        before, self.deferred = self.deferred, False
        if self.asked:
            raise Stopped(self.asked)
        try:
            yield
        finally:
            self.deferred = before

    def agreed(self) -> int:
        """Returns the signal that any of the run's processes was sent, or 0, the same in all."""
        if comm.get_world_size() == 1:
            return self.asked
        asked = torch.tensor([self.asked], dtype=torch.int32)
        dist.all_reduce(asked, dist.ReduceOp.MAX, group=comm._get_global_gloo_group())
        return int(asked)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.asked:
            if not self._is_led:
                end_at_once(number)
            return
        self.asked = number
        if not self.deferred:
            raise Stopped(number)


ENDING = Ending()


@contextmanager
def handling(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within it, `handle` is called for the signals that ask to end."""
    try:
        before = [(number, signal.signal(number, handle)) for number in SIGNALS]
    except ValueError:  # not in the main thread
        before = []
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def end_at_once(number: int) -> NoReturn:
    """Ends this process in one line, without anything that could wait."""
    name = signal.Signals(number).name
    line = f"Stopped at once by {name}. --resume goes on from the last checkpoint.\n"
    os.write(2, line.encode())
    os._exit(128 + number)
