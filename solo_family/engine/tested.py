"""Wrap a model in what an evaluation adds to it: test-time augmentation, tiles; or leaves out."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from ..class_maps import without_class_maps
from ..errors import ConfigError
from ..evaluation.build import kinds_of, predicted_tasks
from ..evaluation.semantic_tta import SemanticWithTTA
from ..tiling.model import TiledModel


def as_tested(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Wrap a model in what `TEST.AUG` and `TEST.TILE` ask for, unless it is wrapped already.

    Raises:
        ConfigError: see `augmented`.
    """
    if isinstance(model, SemanticWithTTA | TiledModel):
        return model
    if cfg.TEST.AUG.ENABLED:
        model = augmented(cfg, model)
    return TiledModel(model, cfg) if cfg.TEST.TILE.SIZE else model


def augmented(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Wrap a model in test-time augmentation (`TEST.AUG`).

    Raises:
        ConfigError: the model has other tasks than semantic segmentation.
    """
    if predicted_tasks(cfg) != ["semantic"]:
        raise ConfigError(
            "TEST.AUG.ENABLED is True, but test-time augmentation supports semantic segmentation "
            f"only; the model predicts {', '.join(predicted_tasks(cfg))}. Set TEST.AUG.ENABLED "
            "False, or let the model predict semantic segmentation only."
        )
    return SemanticWithTTA.from_config(cfg, model)


def without_unread_maps(
    cfg: CfgNode, evaluators: Any, build_evaluator: Callable[..., Any]
) -> AbstractContextManager[None]:
    """Return the context of an evaluation, in which nobody may read the scores of every class.

    Args:
        cfg: the configuration.
        evaluators: those of the caller, who may read everything; None for `build_evaluator`'s.
        build_evaluator: the trainer's, which may be another one than this package's.

    Raises:
        ConfigError: see `kinds_of`.
    """
    own = evaluators is None and build_evaluator.__module__ == f"{__package__}.trainer"
    if not own:
        return nullcontext()
    tasks = {kind.task for name in cfg.DATASETS.TEST for kind in kinds_of(cfg, name)}
    return without_class_maps("semantic" not in tasks)
