"""How a run reacts to signals: the first ends it after the iteration, the second at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist
from detectron2.utils import comm

from ..stopping import Stopped, end_at_once, handling

LAST_CHECKPOINT = "--resume goes on from the last checkpoint."
_NOTHING = "there is no finished iteration to resume from."


class Ending:
    """The state of the request to end this process.

    Attributes:
        asked: the number of the first signal received, or 0.
        deferred: whether the process finishes its current work before it ends.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.deferred = False
        self._is_led = False

    @contextmanager
    def listening(self, *, is_led: bool = False) -> Iterator[None]:
        """Turn signals into `Stopped` exceptions in the `with` block.

        In a thread other than the main one nothing changes, because Python handles signals in the
        main thread only.

        Args:
            is_led: whether another process started this one. That process then counts the signals,
                forwards the first one, and kills this process at the second.
        """
        self.asked, self.deferred, self._is_led = 0, False, is_led
        with handling(self._handle):
            yield

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first signal interrupt the `with` block immediately.

        Raises:
            Stopped: a signal was received before or in the block.
        """
        before, self.deferred = self.deferred, False
        if self.asked:
            raise Stopped(self.asked, _NOTHING)
        try:
            yield
        finally:
            self.deferred = before

    def agreed(self) -> int:
        """Return a signal that any process of the run has received, or 0; all return the same."""
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
