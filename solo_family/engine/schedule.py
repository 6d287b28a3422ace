"""detectron2's learning-rate schedules, including the poly schedule of its DeepLab project."""

import torch
from detectron2.config import CfgNode
from detectron2.projects.deeplab.build_solver import build_lr_scheduler as build_with_poly
from detectron2.solver import LRScheduler

from ..config.check import LR_SCHEDULES
from ..config.rules import check_one_of


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Build the schedule `SOLVER.LR_SCHEDULER_NAME`, with detectron2's warm-up.

    Raises:
        ConfigError: the name is unknown.
    """
    check_one_of(cfg, "SOLVER.LR_SCHEDULER_NAME", LR_SCHEDULES)
    return build_with_poly(cfg, optimizer)
