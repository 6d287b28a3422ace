"""Wrap a model in what an evaluation adds to it: test-time augmentation, tiles."""

from detectron2.config import CfgNode
from torch import nn

from ..errors import ConfigError
from ..evaluation.build import predicted_tasks
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
