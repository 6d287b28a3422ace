"""The hooks that evaluate during training, in their order."""

from typing import Any

from detectron2.engine import HookBase
from detectron2.engine.hooks import EvalHook
from detectron2.utils import comm

from .early_stop import EarlyStop
from .hooks import BestCheckpoint, EvaluationsWritten
from .validation_loss import ValidationLosses


def evaluation_hooks(trainer: Any, metric: str) -> list[HookBase]:
    """Return the hooks that evaluate, log losses, keep the best checkpoint, and stop early.

    Args:
        trainer: a `Trainer`, whose module imports this one.
        metric: the one that `TEST.BEST_METRIC` means; "" for none.
    """
    test = trainer.cfg.TEST
    hooks: list[HookBase] = [EvalHook(test.EVAL_PERIOD, trainer.evaluate)]
    if test.EVAL_LOSS:
        losses = ValidationLosses(trainer.cfg, trainer.raw_model, trainer._trainer.losses)
        hooks.append(EvalHook(test.EVAL_PERIOD, losses))
    hooks.append(EvaluationsWritten(test.EVAL_PERIOD))
    best = None
    if test.BEST_METRIC and comm.is_main_process():
        best = BestCheckpoint(test.EVAL_PERIOD, trainer.checkpointer, metric)
        hooks.append(best)
    if test.EARLY_STOP_PATIENCE:
        hooks.append(
            EarlyStop(
                test.EARLY_STOP_PATIENCE,
                period=test.EVAL_PERIOD,
                metric=metric,
                best=best,
                checkpointer=trainer.checkpointer,
            )
        )
    return hooks
