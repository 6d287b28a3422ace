"""detectron2's learning-rate schedules, including the poly schedule of its DeepLab project."""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.projects.deeplab.build_solver import build_lr_scheduler as build_with_poly
from detectron2.projects.deeplab.lr_scheduler import WarmupPolyLR
from detectron2.solver import LRMultiplier
from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    CosineParamScheduler,
    ParamScheduler,
)
from torch.optim.lr_scheduler import LRScheduler

from ..config.check import LR_SCHEDULES
from ..config.rules import check_one_of

# What of a scheduler's state says where a run is.
_PLACE = ("last_epoch", "_step_count", "_last_lr", "_get_lr_called_within_step", "_is_initial")


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Build the schedule `SOLVER.LR_SCHEDULER_NAME`, with detectron2's warm-up.

    "OneCycleLR" has a warm-up of its own, see `_one_cycle`.

    Raises:
        ConfigError: the name is unknown.
    """
    check_one_of(cfg, "SOLVER.LR_SCHEDULER_NAME", LR_SCHEDULES)
    if cfg.SOLVER.LR_SCHEDULER_NAME == "OneCycleLR":
        return LRMultiplier(optimizer, _one_cycle(cfg), cfg.SOLVER.MAX_ITER)
    if cfg.SOLVER.LR_SCHEDULER_NAME != "WarmupStepWithFixedGammaLR":
        return build_with_poly(cfg, optimizer)
    scheduler = build_with_poly(_warm_before_the_end(cfg), optimizer)
    assert isinstance(scheduler, LRMultiplier)
    scheduler._multiplier = _ToTheEnd(scheduler._multiplier, cfg.SOLVER.MAX_ITER)
    return scheduler


def _warm_before_the_end(cfg: CfgNode) -> CfgNode:
    """Return a configuration whose warm-up ends before the training, as fvcore's steps need it."""
    shorter = cfg.clone()
    shorter.defrost()
    shorter.SOLVER.WARMUP_ITERS = min(cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.MAX_ITER - 1)
    return shorter


def _one_cycle(cfg: CfgNode) -> ParamScheduler:
    """Return the cycle of Smith and Topin (arXiv 1708.07120): up, and down, along a cosine each.

    It rises from `WARMUP_FACTOR` in `WARMUP_ITERS` iterations, and falls to `BASE_LR_END`. In a
    training that is no longer than the warm-up it rises to the end, as detectron2's schedules do.
    """
    solver = cfg.SOLVER
    rising = min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0)
    up = CosineParamScheduler(solver.WARMUP_FACTOR, 1.0)
    if rising == 1:
        return up
    return CompositeParamScheduler(
        [up, CosineParamScheduler(1.0, solver.BASE_LR_END / solver.BASE_LR)],
        lengths=[rising, 1 - rising],
        interval_scaling=["rescaled", "rescaled"],
    )


class _ToTheEnd(ParamScheduler):
    """A schedule with a value after the last iteration, too, where fvcore's step schedule fails.

    Args:
        schedule: from the share of iterations that are done to a factor.
        max_iter: after the last of them the factor stays.
    """

    def __init__(self, schedule: ParamScheduler, max_iter: int) -> None:
        self._schedule = schedule
        self._last = (max_iter - 1) / max_iter

    def __call__(self, where: float) -> float:
        return self._schedule(min(where, self._last))


def state_by_config(scheduler: LRScheduler) -> dict[str, Any] | None:
    """Return what of a scheduler's state follows from the config, and is not the run's place.

    Returns:
        None for a scheduler of other code, all of whose state is a checkpoint's.
    """
    if type(scheduler) not in (LRMultiplier, WarmupPolyLR):
        return None
    return {key: value for key, value in scheduler.state_dict().items() if key not in _PLACE}


def follow_config(
    scheduler: LRScheduler, by_config: dict[str, Any] | None, saved: list[Any]
) -> None:
    """Let a scheduler that has loaded a checkpoint continue as the config says.

    Args:
        scheduler: at the checkpoint's place; the optimizer's rates become what it gives there.
        by_config: what `state_by_config` returned before.
        saved: the checkpoint's rates, with which a scheduler of other code continues.
    """
    rates = saved
    if by_config is not None:
        scheduler.load_state_dict(by_config)
        rates = scheduler._last_lr = scheduler.get_lr()
    for group, rate in zip(scheduler.optimizer.param_groups, rates):
        group["lr"] = rate
