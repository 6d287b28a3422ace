"""Trainer hooks beyond detectron2's: sampler, skipped images, signals, best checkpoint."""

import logging
import math
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.engine.hooks import BestCheckpointer, PeriodicWriter
from detectron2.utils import comm

from ..data.loading.sampler import GroupedSampler
from ..stopping import Stopped
from .ending import ENDING
from .printer import MetricPrinter
from .resume import hook_of_checkpoint


class SamplerPlace(HookBase):
    """Store the sampler's seed in checkpoints, and let a resumed run continue its order of images.

    Args:
        sampler: the sampler of the training loader.
        total_batch_size: images per iteration, of all processes together; a resumed run may have
            another.
    """

    def __init__(self, sampler: GroupedSampler, total_batch_size: int) -> None:
        self._sampler = sampler
        self._total_batch_size = total_batch_size
        # Before the first iteration of this process, and that iteration.
        self._seen, self._start = 0, 0

    def before_train(self) -> None:
        """Skip the batches that were trained on before; the batch size may have changed."""
        if self._start != self.trainer.start_iter:  # the checkpoint is of a loader of other code
            self._start = self.trainer.start_iter
            self._seen = self._start * self._total_batch_size
        self._sampler.start_batch = self._seen // self._total_batch_size

    def state_dict(self) -> dict[str, int]:
        """Return the seed, the batch size and the number of images seen, for a checkpoint."""
        finished = self.trainer.iter + 1
        return {
            "seed": self._sampler.seed,
            "total_batch_size": self._total_batch_size,
            "seen": self._seen + (finished - self._start) * self._total_batch_size,
        }

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restore the seed, and the batch size of the earlier run, from a checkpoint."""
        self._sampler.reseed(state_dict["seed"])
        self._start = self.trainer.iter + 1
        # Checkpoints of an earlier version lack it, and are of one batch size.
        self._seen = state_dict.get("seen", self._start * state_dict["total_batch_size"])


class SkippedImages(HookBase):
    """Count the unreadable images that training skipped, and log the count at the end.

    The count is part of checkpoints. Each of several processes counts its own images.
    """

    trainer: Any  # `Trainer`, whose module imports this one

    def __init__(self) -> None:
        self._count = 0

    def after_step(self) -> None:
        """Add the images that were skipped while this step's batch was loaded."""
        batch = self.trainer._trainer.last_batch
        self._count += sum(item.get("num_skipped", 0) for item in batch)

    def after_train(self) -> None:
        """Log the count."""
        logging.getLogger(__name__).info(
            f"Unreadable training images were skipped {self._count} times."
        )

    def state_dict(self) -> dict[str, int]:
        """Return the count, for a checkpoint."""
        return {"count": self._count}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restore the count from a checkpoint."""
        self._count = state_dict["count"]


class EndOnSignal(HookBase):
    """End training, with a checkpoint, after the iteration in which a signal arrived.

    This hook runs after the hook that saves and before the hook that evaluates. An evaluation is
    interrupted at once; see `Trainer.train`.

    Attributes:
        finished: the last iteration whose step is in the weights; None before the first.
    """

    def __init__(self) -> None:
        self.finished: int | None = None

    def before_step(self) -> None:
        """Make signals wait for the end of the step."""
        ENDING.deferred = True

    def after_step(self) -> None:
        """End training if a signal has arrived at any process.

        Raises:
            Stopped: a signal has arrived.
        """
        self.finished = self.trainer.iter
        number = ENDING.agreed()
        if comm.get_world_size() == 1:
            # A single process may end anywhere between two steps; several must end at the same
            # place.
            ENDING.deferred = False
            number = ENDING.asked  # a signal may have arrived since `agreed`
        if number:
            raise Stopped(number, agreed=True)

    def after_train(self) -> None:
        """Let signals end the process at once again."""
        ENDING.deferred = False


class BestCheckpoint(BestCheckpointer):
    """Save the best checkpoint as detectron2's BestCheckpointer does; its best value is resumed.

    After an evaluation that can't choose a checkpoint one line says why.
    """

    def before_train(self) -> None:
        """Learn of a best evaluation after the checkpoint that a run goes on from.

        A checkpoint is written before its iteration is evaluated, so that `load_state_dict` doesn't
        know how good it is. The best checkpoint does, if it is of the same iteration.
        """
        finished = self.trainer.start_iter - 1
        if finished < 0:
            return
        best = hook_of_checkpoint(
            Path(self._checkpointer.save_dir) / f"{self._file_prefix}.pth", type(self).__name__
        )
        if best.get("name") == self._val_metric and best["iteration"] == finished:
            self._update_best(best["metric"], finished)

    def state_dict(self) -> dict[str, Any]:
        """Return the metric, its best value and the iteration of that, for a checkpoint."""
        return {"name": self._val_metric, "metric": self.best_metric, "iteration": self.best_iter}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value and its iteration from a checkpoint, unless of another metric."""
        if state_dict.get("name", self._val_metric) != self._val_metric:
            self._logger.warning(
                f"TEST.BEST_METRIC was {state_dict['name']} and is {self._val_metric}: the best "
                "checkpoint is chosen again from here on."
            )
            return
        self.best_metric = state_dict["metric"]
        self.best_iter = state_dict["iteration"]

    def _best_checking(self) -> None:
        latest = self.trainer.storage.latest()
        if self._val_metric not in latest:
            there = sorted(name for name in latest if "/" in name)
            self._logger.warning(
                f"TEST.BEST_METRIC {self._val_metric} is not among the metrics of this evaluation "
                f"({', '.join(there) or 'none'}): no best checkpoint is kept."
            )
            return
        if not math.isfinite(latest[self._val_metric][0]):
            self._logger.warning(
                f"TEST.BEST_METRIC {self._val_metric} is no number here, mostly since the dataset "
                "has no objects of that kind: this evaluation chooses no best checkpoint."
            )
            return
        self._keep_if_best(latest[self._val_metric][0])

    def _keep_if_best(self, value: float) -> None:
        """Save the weights if they are the best; the file says itself how good they are.

        BestCheckpointer saves a later best one with the value of the one before, and what is best
        at the end of training as if it had had one more iteration.
        """
        if self.best_metric is not None and value <= self.best_metric:
            self._logger.info(
                f"{self._val_metric} is {value:.5g}, not better than {self.best_metric:.5g} after "
                f"iteration {self.best_iter + 1}: that stays the best checkpoint."
            )
            return
        now, finished = self.trainer.iter, min(self.trainer.iter, self.trainer.max_iter - 1)
        self._update_best(value, finished)
        self.trainer.iter = finished
        try:
            self._checkpointer.save(self._file_prefix, iteration=finished)
        finally:
            self.trainer.iter = now
        self._logger.info(
            f"The best checkpoint is now that of iteration {finished + 1}: {self._val_metric} is "
            f"{value:.5g}."
        )


class EvaluationsWritten(HookBase):
    """Write the metrics of every evaluation, with the writers that the trainer has.

    They write every 20 iterations, and only the latest value of each metric, so that of evaluations
    in shorter periods most would be lost. The line of progress keeps its own period.

    Args:
        period: `TEST.EVAL_PERIOD`.
    """

    trainer: Any  # `Trainer`, as above

    def __init__(self, period: int) -> None:
        self._period = period

    def after_step(self) -> None:
        """Write them if there was an evaluation after this iteration."""
        if self._period <= 0 or (self.trainer.iter + 1) % self._period:
            return
        periodic = [hook for hook in self.trainer._hooks if isinstance(hook, PeriodicWriter)]
        for writer in (writer for hook in periodic for writer in hook._writers):
            if not isinstance(writer, MetricPrinter):
                writer.write()
