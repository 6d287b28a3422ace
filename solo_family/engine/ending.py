"""What signals ask of a run: once, to end well; twice, to end at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist
from detectron2.utils import comm

from ..stopping import Stopped, end_at_once, handling

LAST_CHECKPOINT = "--resume goes on from the last checkpoint."
_NOTHING = "nothing was finished that a run could go on from."


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
            raise Stopped(self.asked, _NOTHING)
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
                end_at_once(number, LAST_CHECKPOINT)
            return
        self.asked = number
        if not self.deferred:
            raise Stopped(number, _NOTHING)


ENDING = Ending()
