"""detectron2's DefaultTrainer with this family's mapper, optimizer and evaluators."""

import os
import weakref
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.engine import DefaultTrainer, TrainerBase
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..data.dataset_mapper import MaskDatasetMapper
from ..data.register import register_in_place
from ..errors import ConfigError
from .checkpointer import AtomicCheckpointer
from .optimizer import build_optimizer
from .step import TrainingStep


class Trainer(DefaultTrainer):
    """Trains and evaluates; loaders, schedules, hooks and checkpoints are detectron2's."""

    def __init__(self, cfg: CfgNode) -> None:
        # DefaultTrainer's own order, but for the wrapping: its DDP can't run on a CPU.
        TrainerBase.__init__(self)
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        register_in_place((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        model = distributed(model)
        precision = getattr(torch, cfg.SOLVER.AMP.PRECISION) if cfg.SOLVER.AMP.ENABLED else None
        self._trainer = TrainingStep(model, data_loader, optimizer, precision=precision)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = AtomicCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    @property
    def last_results(self) -> dict[str, dict[str, float]]:
        """Metrics of the last evaluation, by task; empty before the first."""
        return getattr(self, "_last_eval_results", {})

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        return build_detection_train_loader(cfg, mapper=MaskDatasetMapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        register_in_place([dataset_name])
        mapper = MaskDatasetMapper(cfg, is_train=False)
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        return COCOEvaluator(
            dataset_name, output_dir=output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
        )

    @classmethod
    def test(
        cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None
    ) -> dict[str, dict[str, float]]:
        if not cfg.DATASETS.TEST:
            raise ConfigError(
                "DATASETS.TEST is empty: name a dataset to evaluate on, "
                "for instance \"('coco_json:ANNOTATIONS.json:IMAGE_DIR',)\"."
            )
        return super().test(cfg, model, evaluators)


def distributed(model: nn.Module) -> nn.Module:
    """Wraps a model in DDP where there are several processes, on GPUs or (gloo) on CPUs."""
    if comm.get_world_size() == 1:
        return model
    device_ids = [comm.get_local_rank()] if next(model.parameters()).is_cuda else None
    return DistributedDataParallel(model, device_ids=device_ids, broadcast_buffers=False)
