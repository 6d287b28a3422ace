"""Take the weights of a trained model over into one with other classes, by the classes' names.

K classes.
"""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor

from ..config.rules import get_key
from ..registry import METHODS

# `KEY VALUE` pairs with which no weights are loaded.
WITHOUT_WEIGHTS = ("MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", "", "MODEL.VGG.WEIGHTS", "")


def matched(
    cfg: CfgNode, trained: dict[str, Tensor], old_names: list[str], names: list[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights of a model with other classes.

    Weights of a class that both models have, by name, are the trained ones; those of other classes
    are as at the beginning of a training. What follows the K rows of classes, such as "no object",
    is kept.

    Args:
        cfg: of the trained model, with its number of classes.
        trained: its weights.
        old_names: of its classes, in the order of its outputs; empty if they are not known.
        names: of the classes to learn, in the order of the new model's outputs.

    Returns:
        The weights, and the names of weights that the new model does not take.
    """
    key = METHODS[cfg.MODEL.META_ARCHITECTURE].num_classes_key
    count = len(old_names) or int(get_key(cfg, key))
    rows = _classwise(cfg, key, count)
    fresh = _model(cfg, key, len(names), "cpu").state_dict()
    weights, left = {}, []
    for name, value in trained.items():
        if name not in fresh:
            left.append(name)
        elif name in rows:
            weights[name] = _with_rows(fresh[name].clone(), value, names, old_names, count)
        elif fresh[name].shape == value.shape:
            weights[name] = value
        else:
            left.append(name)
    return weights, left


def _with_rows(
    new: Tensor, old: Tensor, names: list[str], old_names: list[str], count: int
) -> Tensor:
    """Return `new` with the rows of `old` of the classes that both have, and those after them."""
    for row, name in enumerate(names):
        if name in old_names:
            new[row] = old[old_names.index(name)]
    new[len(names) :] = old[count:]
    return new


def _classwise(cfg: CfgNode, key: str, count: int) -> set[str]:
    """Return the names of the weights whose first dimension grows with the number of classes."""
    one, other = (
        {name: value.shape for name, value in _model(cfg, key, k, "meta").state_dict().items()}
        for k in (count, count + 1)
    )
    return {name for name, shape in one.items() if shape != other[name]}


def _model(cfg: CfgNode, key: str, count: int, device: str) -> Any:
    cfg = cfg.clone()
    cfg.merge_from_list([key, count, "MODEL.DEVICE", device, *WITHOUT_WEIGHTS])
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.MODEL.CLASS_NAMES = cfg.MODEL.CLASS_IDS = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build_model(cfg)
