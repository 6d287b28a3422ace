"""Let a training end in a given time, with as many iterations as fit."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from detectron2.engine import HookBase

from ..engine.eta import evaluation_seconds, in_float32
from ..engine.trainer import Trainer
from .timing import FIRST, TIMED, typical

logger = logging.getLogger(__name__)

# Of the time, kept for what can't be foreseen. A plan stays until it would exceed all of the time.
_KEPT = 0.06
# Of the time, after which timed iterations are enough to plan, however few they are.
_ENOUGH = 0.05
_TOO_LONG = 0.3
_AGAIN = 20  # iterations after which a plan may be changed again
_LAST = _AGAIN + FIRST  # which tell how fast the machine is
# The evaluation's metrics, the demo's start and its pictures, in iterations in float32.
_DRAWING = 10
# The report, likewise: 5.3 CPU seconds where an iteration of the quick start took 1.4.
_REPORT = 5


class Replanned(BaseException):
    """The training has ended, with a checkpoint, to go on with fewer iterations.

    It is no Exception, because nothing has failed that the log should show.

    Args:
        iterations: of the whole training.
    """

    def __init__(self, iterations: int) -> None:
        super().__init__(iterations)
        self.iterations = iterations


@dataclass
class Deadline:
    """Plan how many iterations fit.

    Args:
        end: when everything must be done, on `clock`.
        budget: seconds that were given for everything.
        images: that are evaluated after the training.
        batch: images of an iteration.
        reports: whether a report is written after the training.
        mixed: whether the training is in mixed precision, which nothing after it is.
        clock: seconds that only grow.

    Attributes:
        seconds: of the iterations of this run.
        said: the last plan in words; "" before the first.
    """

    end: float
    budget: float
    images: int
    batch: int
    reports: bool = True
    mixed: bool = False
    clock: Callable[[], float] = time.monotonic
    seconds: list[float] = field(default_factory=list)
    said: str = ""
    _planned_at: int = 0

    def look(self, finished: int, planned: int) -> int:
        """Return how many iterations the training should have, at most the planned ones.

        Args:
            finished: iterations of the training, those of earlier runs included.
            planned: of the training.
        """
        each = typical(self.seconds[-_LAST:])
        left = self.end - self.clock() - self._afterwards(each)
        since = len(self.seconds) - self._planned_at
        if self.said:
            is_due = left < 0 or (since >= _AGAIN and left < (planned - finished) * each)
        else:
            is_due = since >= FIRST + TIMED or self._has_timed_enough()
        if not is_due:
            return planned
        self._planned_at = len(self.seconds)
        fitting = finished + max(0, int((left - _KEPT * self.budget) / each))
        self.said = _in_words(min(since, _LAST), each, fitting, planned, self.budget)
        return min(planned, fitting)

    def _has_timed_enough(self) -> bool:
        """Return whether few iterations have taken so long that a plan can't wait for more.

        The first ones, which take longer than the others, count only where they take too long.
        """
        others, all_of_them = sum(self.seconds[FIRST:]), sum(self.seconds)
        return others > _ENOUGH * self.budget or all_of_them > _TOO_LONG * self.budget

    def _afterwards(self, each: float) -> float:
        """Return the seconds of the evaluation, of the report, and of drawing."""
        others = (_DRAWING + _REPORT * self.reports) * in_float32(each, self.mixed)
        return evaluation_seconds(self.images, self.batch, each, mixed=self.mixed) + others


def _in_words(timed: int, each: float, fitting: int, planned: int, budget: float) -> str:
    number = f"{fitting} of {planned}" if fitting < planned else f"all {planned}"
    return (
        f"The last {timed} iterations took {each:.2g} s each: {number} iterations fit in "
        f"{budget / 60:g} minutes."
    )


class KeepDeadline(HookBase):
    """End the training with a checkpoint when it needs another number of iterations.

    It has to come after the hooks whose work belongs to an iteration.
    """

    trainer: Trainer

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._start = 0.0

    def before_step(self) -> None:
        """Begin to time an iteration."""
        self._start = self._deadline.clock()

    def after_step(self) -> None:
        """Look at the plan.

        Raises:
            Replanned: fewer iterations fit.
        """
        trainer, deadline = self.trainer, self._deadline
        deadline.seconds.append(deadline.clock() - self._start)
        finished = trainer.iter + 1
        if finished == trainer.max_iter:
            return
        said = deadline.said
        iterations = deadline.look(finished, trainer.max_iter)
        if deadline.said != said:
            logger.info(deadline.said)
        if iterations < trainer.max_iter:
            trainer._save_finished(trainer.iter)
            raise Replanned(iterations)


def keeping(deadline: Deadline) -> type[Trainer]:
    """Return the trainer that keeps a deadline."""

    class KeepingTrainer(Trainer):
        def build_hooks(self) -> list[HookBase | None]:
            return [*super().build_hooks(), KeepDeadline(deadline)]

    return KeepingTrainer
