"""detectron2's DefaultTrainer with this package's loaders, optimizer, evaluators and hooks."""

import os
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase, TrainerBase
from detectron2.engine.hooks import EvalHook
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation.testing import verify_results
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from ..checkpoint.load import load_weights
from ..data.formats.classes import with_classes
from ..data.formats.register import check_datasets
from ..data.loading.loader import Mapper, build_test_loader, build_train_loader
from ..errors import ConfigError
from ..evaluation.build import build_evaluator
from ..evaluation.preconditions import check_evaluation
from ..modeling.stem import colour_places
from ..report.evaluated import note_training
from ..stopping import Stopped
from .checkpointer import AtomicCheckpointer
from .early_stop import EarlyStopped
from .ema import EMA
from .ending import ENDING
from .eta import build_eta
from .evaluation_hooks import evaluation_hooks
from .hooks import EndOnSignal, SamplerPlace, SkippedImages
from .loggers import build_loggers, open_loggers
from .metrics_file import MetricsFile
from .optimizer import build_optimizer
from .parts import check_parts
from .printer import MetricPrinter
from .resume import iteration_of, set_aside
from .resume import resume as resume_newest
from .resumed import check_resumed, settings_of
from .schedule import build_lr_scheduler, follow_config, state_by_config
from .shared_cores import shared_cores
from .step import TrainingStep
from .tested import as_tested, without_unread_maps
from .training_pictures import TrainingPictures
from .whole_state import WholeState
from .wrappers import adapt, distributed, resumable_sampler


class Trainer(WholeState):
    """Train and evaluate a model, with detectron2's extension points (docs/extending.md).

    Args:
        cfg: the configuration.

    Attributes:
        raw_model: the model without a DDP wrapper.
        sampler: the sampler whose position checkpoints keep; None for a loader of other code.
        ema: the averaged weights; None unless `SOLVER.EMA.ENABLED`.
    """

    _trainer: TrainingStep

    def __init__(self, cfg: CfgNode) -> None:
        TrainerBase.__init__(self)  # and then DefaultTrainer's order, with DDP also on a CPU
        cfg = with_classes(self.auto_scale_workers(cfg, comm.get_world_size()))
        self._best_metric = self.check_evaluation(cfg)
        self.raw_model = self.build_model(cfg)
        check_parts(self.raw_model, cfg.SOLVER.ACCUMULATE)
        adapt(self.raw_model, cfg)
        optimizer = self.build_optimizer(cfg, self.raw_model)
        data_loader = self.build_train_loader(cfg)
        self.sampler = resumable_sampler(data_loader)
        model = distributed(self.raw_model)
        precision = getattr(torch, cfg.SOLVER.AMP.PRECISION) if cfg.SOLVER.AMP.ENABLED else None
        options: dict[str, Any] = {"precision": precision, "accumulate": cfg.SOLVER.ACCUMULATE}
        options |= {"sampler": self.sampler, "trainer": weakref.proxy(self)}
        self._trainer = TrainingStep(model, data_loader, optimizer, **options)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = AtomicCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.ema = EMA(self.raw_model, cfg.SOLVER.EMA.DECAY) if cfg.SOLVER.EMA.ENABLED else None
        self.checkpointer.ema = self.ema
        self._end, self._eta = EndOnSignal(), build_eta(cfg)
        self.register_hooks(self.build_hooks())

    # DefaultTrainer's own `train` takes no arguments, either.
    def train(self) -> Any:  # type: ignore[override]
        """Train, and evaluate at the end.

        Raises:
            ConfigError: a logger can't begin.
            Stopped: a signal has ended the run; all finished iterations are in a checkpoint.
        """
        open_loggers(self._hooks, resumed=self.start_iter > 0)
        try:
            return super().train()
        except EarlyStopped:
            return self._end_early()
        except Stopped as stopped:
            finished = self._end.finished
            if finished is None:
                raise
            ENDING.deferred = True
            name = self._save_finished(finished)
            if stopped.agreed:
                comm.synchronize()  # all processes wait until the main one has written
            raise Stopped(
                stopped.number,
                f"iteration {finished + 1} of {self.max_iter} is in {name}; the same command with "
                "--resume goes on from there.",
            ) from None

    def _end_early(self) -> dict[str, dict[str, float]]:
        """Write the final checkpoint, and return the last evaluation's metrics."""
        self.iter = self._end.finished or 0
        self.checkpointer.save("model_final", iteration=self.iter)
        if comm.is_main_process() and self.last_results:
            verify_results(self.cfg, self.last_results)
        return self.last_results

    def _save_finished(self, iteration: int) -> str:
        """Save a checkpoint after an iteration, unless it was saved already; return its path."""
        last = iteration + 1 >= self.max_iter
        name = "model_final" if last else f"model_{iteration:07d}"
        if self.checkpointer.saved_iteration != iteration:
            self.iter = iteration
            self.checkpointer.save(name, iteration=iteration)
        return os.path.join(self.cfg.OUTPUT_DIR, f"{name}.pth")

    def resume_or_load(self, resume: bool = True) -> None:
        """Resume from the newest checkpoint, or start from `MODEL.WEIGHTS`.

        Args:
            resume: whether to resume; if False, the checkpoints of an earlier run are moved to a
                subfolder.

        Raises:
            DataError: a checkpoint can't be read, or doesn't fit the model.
        """
        if resume and resume_newest(self.checkpointer):
            self.start_iter = self.iter + 1
            self._end.finished = self.checkpointer.saved_iteration = self.iter
            self._write_missing_final()
            return
        colours = colour_places(self.cfg)
        load_weights(self.checkpointer, self.cfg.MODEL.WEIGHTS, complete=False, colours=colours)
        comm.synchronize()  # MODEL.WEIGHTS may be among the files to move, so all must have read it
        if comm.is_main_process():
            set_aside(self.cfg.OUTPUT_DIR)

    def state_dict(self) -> dict[str, Any]:
        """All that a run goes on with, and the settings that it was written with."""
        return {**super().state_dict(), "settings": settings_of(self.cfg)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint as the config says; see `resumed`.

        Raises:
            ConfigError: the config has a setting that can't be changed in a run.
        """
        finished = state_dict["iteration"] + 1
        check_resumed(state_dict.get("settings"), finished, self.cfg)
        by_config = state_by_config(self.scheduler)
        super().load_state_dict(state_dict)
        saved = state_dict["_trainer"]["optimizer"]["param_groups"]
        follow_config(self.scheduler, by_config, [group["lr"] for group in saved])

    def _write_missing_final(self) -> None:
        """Write the final checkpoint of a run that was killed just before writing it."""
        final = Path(self.cfg.OUTPUT_DIR) / "model_final.pth"
        if self.start_iter >= self.max_iter and iteration_of(final) != self.iter:
            self.checkpointer.save(final.stem, iteration=self.iter)

    def build_hooks(self) -> list[HookBase | None]:
        """Return detectron2's hooks, with this package's before those that save and evaluate."""
        cfg = self.cfg
        ours: list[HookBase] = [self._eta, *shared_cores(cfg)]
        if self.sampler is not None:
            ours.append(SamplerPlace(self.sampler, cfg.SOLVER.IMS_PER_BATCH))
        if cfg.DATALOADER.SKIP_BAD_IMAGES:
            ours.append(SkippedImages())
        if self.ema is not None:
            ours.append(self.ema)
        if cfg.VIS_PERIOD > 0 and comm.is_main_process():
            ours.append(TrainingPictures(self.raw_model, cfg))
        hooks: list[HookBase | None] = []
        for hook in super().build_hooks():
            if isinstance(hook, EvalHook):
                hooks += [self._end, *evaluation_hooks(self, self._best_metric)]
            else:
                hooks.append(hook)
        # The hooks that save and evaluate need this step's average, so they come later.
        return [*hooks[:2], *ours, *hooks[2:]]

    @classmethod
    def check_evaluation(cls, cfg: CfgNode) -> str:
        """Check what evaluations need (see `preconditions`); return the best checkpoint's metric.

        What an overridden `build_evaluator` needs and gives is not known before.
        """
        build: Any = cls.build_evaluator
        ours: Any = Trainer.build_evaluator
        return check_evaluation(cfg) if build.__func__ is ours.__func__ else cfg.TEST.BEST_METRIC

    def build_writers(self) -> list[EventWriter]:
        """Return the writers of metrics: to the log, to metrics.json, and `OUTPUT.LOGGERS`."""
        cfg = self.cfg
        return [
            MetricPrinter(self.max_iter, self._eta),
            MetricsFile(os.path.join(cfg.OUTPUT_DIR, "metrics.json")),
            *build_loggers(cfg.OUTPUT.LOGGERS, cfg.OUTPUT_DIR),
        ]

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Evaluate the weights and, with EMA, their average.

        Returns:
            The metrics by task; those of the average as "<task>_ema". Empty without
            `DATASETS.TEST`, or if a signal has asked the run to end.
        """
        if not self.cfg.DATASETS.TEST or ENDING.asked:
            return {}
        with ENDING.at_once():
            self._last_eval_results = self._evaluate()
        return self._last_eval_results

    def _evaluate(self) -> dict[str, dict[str, float]]:
        results = self.test(self.cfg, self._trainer.model)
        if comm.is_main_process():
            note_training(Path(self.cfg.OUTPUT_DIR))
        if self.ema is not None:
            evaluators = [
                self.build_evaluator(
                    self.cfg, name, os.path.join(self.cfg.OUTPUT_DIR, "inference_ema")
                )
                for name in self.cfg.DATASETS.TEST
            ]
            with self.ema.applied(), without_unread_maps(self.cfg, None, self.build_evaluator):
                averaged = self.test(self.cfg, self._trainer.model, evaluators)
            results.update({f"{task}_ema": metrics for task, metrics in averaged.items()})
        return results

    @property
    def last_results(self) -> dict[str, dict[str, float]]:
        """Metrics of the last evaluation, by task; empty before the first."""
        return getattr(self, "_last_eval_results", {})

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """Build the optimizer; see `engine.optimizer.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
        """Build the learning-rate schedule; see `engine.schedule.build_lr_scheduler`."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, mapper: Mapper | None = None) -> Iterable[Any]:
        """Build the loader of `DATASETS.TRAIN`; override it to load in another way.

        Args:
            cfg: the configuration.
            mapper: maps detectron2's dict of an image to the model's input, or to None if another
                image is to take its place; by default that of `INPUT.DATASET_MAPPER_NAME`.
        """
        return build_train_loader(cfg, mapper)[0]

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """Build the loader of a dataset for evaluation; override it to load in another way."""
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """Build the evaluator of a dataset; override it to evaluate in another way.

        Args:
            cfg: the configuration.
            dataset_name: one of `DATASETS.TEST`.
            output_folder: for the predictions; by default `OUTPUT_DIR/inference`.
        """
        check_datasets([dataset_name])
        folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
        return build_evaluator(cfg, dataset_name, folder)

    @classmethod
    def test(
        cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None
    ) -> dict[str, dict[str, float]]:
        """Evaluate a model on `DATASETS.TEST`, with test-time augmentation if `TEST.AUG.ENABLED`.

        Arguments and results are DefaultTrainer's; evaluators default to `build_evaluator`'s.

        Raises:
            ConfigError: `DATASETS.TEST` is empty, or the model can't be augmented.
        """
        if not cfg.DATASETS.TEST:
            raise ConfigError(
                "DATASETS.TEST is empty: name a dataset to evaluate on, "
                "for instance \"('coco_json:ANNOTATIONS.json:IMAGE_DIR',)\"."
            )
        with without_unread_maps(cfg, evaluators, cls.build_evaluator):
            return super().test(cfg, as_tested(cfg, model), evaluators)
