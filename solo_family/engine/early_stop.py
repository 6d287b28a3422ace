"""Stop training when evaluations no longer improve (`TEST.EARLY_STOP_PATIENCE`)."""

import logging
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from .checkpointer import AtomicCheckpointer
from .hooks import BestCheckpoint

logger = logging.getLogger(__name__)


class EarlyStopped(BaseException):
    """Training has ended before its last iteration, since evaluations no longer improve.

    It is no error, which detectron2's trainer would log as one.
    """


class EarlyStop(HookBase):
    """End training after some evaluations in a row that were not better than the best one.

    The hook follows those that evaluate and keep the best checkpoint. The main process decides for
    all. Checkpoints hold the number of evaluations, so that a resumed run goes on counting.

    Args:
        patience: the number of evaluations, at least 1.
        period: `TEST.EVAL_PERIOD`.
        metric: the metric that the best checkpoint is chosen by.
        best: the hook that keeps the best checkpoint; None in all but the main process.
        checkpointer: writes the checkpoints of the run.
    """

    def __init__(
        self,
        patience: int,
        *,
        period: int,
        metric: str,
        best: BestCheckpoint | None,
        checkpointer: AtomicCheckpointer,
    ) -> None:
        self._patience = patience
        self._period = period
        self._metric = metric
        self._best = best
        self._checkpointer = checkpointer
        self._count = 0

    def before_train(self) -> None:
        """End a resumed run that had ended, unless the patience was raised.

        Raises:
            EarlyStopped: nothing is left to do.
        """
        # The iteration that was done last: in the one to come, hooks would take the end of training
        # for the end of its last iteration, and evaluate.
        self.trainer.iter -= 1
        self._end_if_exhausted()
        self.trainer.iter += 1

    def after_step(self) -> None:
        """Count the evaluation of this iteration, if there was one.

        Raises:
            EarlyStopped: the patience is exhausted.
        """
        next_iter = self.trainer.iter + 1
        # The conditions of detectron2's EvalHook. The last evaluation is after training.
        if next_iter % self._period or next_iter == self.trainer.max_iter:
            return
        if self._best is not None:
            improved = self._best.best_iter == self.trainer.iter
            self._count = 0 if improved else self._count + 1
            if self._checkpointer.saved_iteration == self.trainer.iter:
                # The checkpoint of this iteration was written before its evaluation.
                name = f"model_{self.trainer.iter:07d}"
                self._checkpointer.save(name, iteration=self.trainer.iter)
        self._end_if_exhausted()

    def _end_if_exhausted(self) -> None:
        count = comm.all_gather(self._count)[0]
        if count < self._patience:
            return
        if self._best is not None and self._best.best_iter is not None:
            logger.info(
                "Training ends early: in %d evaluations %s was not better than %.5g, at iteration "
                "%d (TEST.EARLY_STOP_PATIENCE %d). To go on, raise that and add --resume.",
                count,
                self._metric,
                self._best.best_metric,
                self._best.best_iter + 1,
                self._patience,
            )
        raise EarlyStopped

    def state_dict(self) -> dict[str, Any]:
        """Return the number of evaluations without improvement, for a checkpoint."""
        return {"name": self._metric, "count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number from a checkpoint, unless it is of another metric."""
        if state_dict["name"] == self._metric:
            self._count = state_dict["count"]
