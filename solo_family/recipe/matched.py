"""Take the weights of a trained model over into one with other classes, by the classes' names.

K classes.
"""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor

from ..config.rules import get_key
from ..registry import METHODS, method_name
from .choice import Choice

_QUERIES = "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES"
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
    count = len(old_names) or _num_classes(cfg)
    rows = _classwise(cfg, count)
    fresh = _model(cfg, count, len(names), "cpu").state_dict()
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


def query_choices(cfg: CfgNode, num_classes: int) -> list[Choice]:
    """Return the line that gives each class its query, where query k learns class k.

    Args:
        cfg: of the trained model, with its number of classes.
        num_classes: the number of classes to learn.
    """
    if not _has_fixed_queries(cfg):
        return []
    count = _num_queries(cfg, _num_classes(cfg), num_classes)
    return [Choice(_QUERIES, count, "each class has its own (MATCHING fixed)")]


def _with_rows(
    new: Tensor, old: Tensor, names: list[str], old_names: list[str], count: int
) -> Tensor:
    """Return `new` with the rows of `old` of the classes that both have, and those after them."""
    for row, name in enumerate(names):
        if name in old_names:
            new[row] = old[old_names.index(name)]
    new[len(names) :] = old[count:]
    return new


def _classwise(cfg: CfgNode, count: int) -> set[str]:
    """Return the names of the weights whose first dimension grows with the number of classes."""
    one, other = (
        {name: value.shape for name, value in _model(cfg, count, k, "meta").state_dict().items()}
        for k in (count, count + 1)
    )
    return {name for name, shape in one.items() if shape != other[name]}


def _model(cfg: CfgNode, old_count: int, count: int, device: str) -> Any:
    """Return the model of a configuration of `old_count` classes, with `count`."""
    opts = [_num_classes_key(cfg), count, "MODEL.DEVICE", device, *WITHOUT_WEIGHTS]
    if _has_fixed_queries(cfg):
        opts += [_QUERIES, _num_queries(cfg, old_count, count)]
    cfg = cfg.clone()
    cfg.merge_from_list(opts)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.MODEL.CLASS_NAMES = cfg.MODEL.CLASS_IDS = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build_model(cfg)


def _num_classes_key(cfg: CfgNode) -> str:
    return METHODS[cfg.MODEL.META_ARCHITECTURE].num_classes_key


def _num_classes(cfg: CfgNode) -> int:
    return int(get_key(cfg, _num_classes_key(cfg)))


def _has_fixed_queries(cfg: CfgNode) -> bool:
    """Return whether query k of MaskFormer learns class k (`MATCHING fixed`)."""
    is_mask_former = method_name(cfg.MODEL.META_ARCHITECTURE) == "MaskFormer"
    return is_mask_former and cfg.MODEL.MASK_FORMER.MATCHING == "fixed"


def _num_queries(cfg: CfgNode, old_count: int, count: int) -> int:
    """Return the number of queries for other classes: what is left beyond them stays."""
    return int(cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES) - old_count + count
