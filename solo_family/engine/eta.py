"""How long a training will still take: its iterations, and the evaluations between and after them.

Seconds of a clock that only grows.
"""

import time
from collections.abc import Callable
from functools import cached_property

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.engine import HookBase

# Of these iterations, those that were measured last, the mean counts.
_LEAST, _MOST = 3, 1000
# Inference is the first third of an iteration: no gradients. It is in float32, in which iterations
# take about twice the time of those in mixed precision.
_INFERENCE = 1 / 3
_SLOWER = 2.0


def evaluation_seconds(images: int, batch: int, seconds: float, *, mixed: bool) -> float:
    """Return what evaluating images is expected to take.

    Args:
        images: how many there are.
        batch: images per training iteration.
        seconds: that a training iteration takes.
        mixed: whether it is in mixed precision.
    """
    return images / batch * in_float32(seconds, mixed) * _INFERENCE


def in_float32(seconds: float, mixed: bool) -> float:
    """Return what an iteration is expected to take in float32.

    Args:
        seconds: that it takes.
        mixed: whether that is in mixed precision.
    """
    return seconds * _SLOWER if mixed else seconds


class Eta(HookBase):
    """Measure the time of iterations and evaluations, and estimate what is left.

    The first iterations take longer than the others: caches are empty, libraries choose their
    algorithms. So the mean is that of the later half. A mean, because the sum is what counts: a
    median would leave out what every tenth iteration waits for. Evaluations are counted apart; the
    duration of one that has not been measured yet is estimated from the number of its images.

    The hook must be the first of the trainer's, so that its steps include the other hooks.

    Args:
        period: `TEST.EVAL_PERIOD`; 0 evaluates after the last iteration alone.
        images: returns how many an evaluation has, 0 for none; it is called once.
        batch: images per iteration.
        mixed: whether these are in mixed precision.
        clock: the seconds.
    """

    def __init__(
        self,
        period: int,
        images: Callable[[], int],
        batch: int,
        mixed: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._period = period
        self._count_images = images
        self._batch = batch
        self._mixed = mixed
        self._clock = clock
        self._began = 0.0
        self._steps: list[float] = []
        self._evaluations: list[float] = []

    def before_step(self) -> None:
        """Measure the iteration that has ended."""
        self.begin(self.trainer.iter, self.trainer.start_iter)

    def begin(self, iteration: int, start: int) -> None:
        """Begin an iteration.

        Args:
            iteration: its number, from 0.
            start: the number of the first one of this process.
        """
        now = self._clock()
        if iteration > start:
            seconds = now - self._began
            if self._evaluates(iteration):
                self._evaluations.append(max(0.0, seconds - (self._typical() or seconds)))
            else:
                self._steps.append(seconds)
        self._began = now

    def left(self, finished: int, total: int) -> float | None:
        """Return the seconds that are left, None if nothing has been measured.

        Args:
            finished: iterations.
            total: iterations of the training.
        """
        typical = self._typical()
        if typical is None:
            return None
        return (total - finished) * typical + self._evaluating(finished, total, typical)

    def _evaluating(self, finished: int, total: int, typical: float) -> float:
        """Return the seconds of the evaluations that are left."""
        if not self._images:
            return 0.0
        number = 1  # after the last iteration
        if self._period > 0:
            number += max(0, (total - 1) // self._period - finished // self._period)
        if self._evaluations:
            return number * sum(self._evaluations) / len(self._evaluations)
        return number * evaluation_seconds(self._images, self._batch, typical, mixed=self._mixed)

    @cached_property
    def _images(self) -> int:
        return self._count_images()

    def _evaluates(self, finished: int) -> bool:
        """Return whether an evaluation follows the iteration with which so many are finished."""
        return self._period > 0 and finished % self._period == 0 and self._images > 0

    def _typical(self) -> float | None:
        if not self._steps:
            return None
        later = self._steps[-min(_MOST, max(_LEAST, len(self._steps) // 2)) :]
        return sum(later) / len(later)


def build_eta(cfg: CfgNode) -> Eta:
    """Return the hook for a configuration."""
    # The losses, and the averaged weights, take an evaluation each.
    times = 1 + bool(cfg.TEST.EVAL_LOSS) + bool(cfg.SOLVER.EMA.ENABLED)

    def images() -> int:
        try:
            return times * sum(len(DatasetCatalog.get(name)) for name in cfg.DATASETS.TEST)
        except KeyError:  # a trainer of other code loads it in its own way
            return 0

    return Eta(cfg.TEST.EVAL_PERIOD, images, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.AMP.ENABLED)
