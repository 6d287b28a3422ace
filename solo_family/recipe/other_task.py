"""Let a trained model learn another task than its own."""

from typing import Any

from detectron2.config import CfgNode

from ..config.rules import get_key
from ..registry import method_name
from .choice import Choice

_TASKS = ("semantic", "panoptic", "instance")
# What only labels of one kind allow, with the values that do nothing.
_NEUTRAL: dict[str, Any] = {
    "INPUT.DATASET_MAPPER_NAME": "",
    "INPUT.SIZE_DIVISIBILITY": -1,
}
# How MaskFormer learns objects, of which a class may have several: as published.
_OF_OBJECTS = {"MATCHING": "bipartite", "LOSS_TYPE": "mask_classification"}
_QUERIES, _DICE_WEIGHT = 100, 1.0


def task_choices(cfg: CfgNode, task: str) -> list[Choice]:
    """Return the lines by which a trained model learns and predicts what the data have.

    Args:
        cfg: of the trained model.
        task: of the labels: "instance", "semantic" or "panoptic".
    """
    why = "the data are instances" if task == "instance" else f"the labels are {task}"
    choices = []
    if task != "instance":
        changed = {key: value for key, value in _NEUTRAL.items() if get_key(cfg, key) != value}
        choices = [Choice(key, value, why) for key, value in changed.items()]
    method = method_name(cfg.MODEL.META_ARCHITECTURE)
    if method == "MaskFormer":
        return [*choices, *_of_mask_former(cfg, task, why)]
    if method == "SparseInst":
        wanted = task == "panoptic"
        if wanted != cfg.MODEL.SPARSE_INST.PANOPTIC_ON:
            choices.append(Choice("MODEL.SPARSE_INST.PANOPTIC_ON", wanted, why))
    return choices


def _of_mask_former(cfg: CfgNode, task: str, why: str) -> list[Choice]:
    key = "MODEL.MASK_FORMER.TEST"
    choices = [Choice("INPUT.DATASET_MAPPER_NAME", "", why)]
    choices += [Choice(f"{key}.{name.upper()}_ON", name == task, why) for name in _TASKS]
    if task != "semantic":
        choices += _of_objects(cfg.MODEL.MASK_FORMER, why)
    if task == "panoptic" and not cfg.MODEL.MASK_FORMER.TEST.PANOPTIC_ON:
        published = "as in the published configs of panoptic segmentation"
        choices += [
            Choice(f"{key}.OBJECT_MASK_THRESHOLD", 0.8, published),
            Choice(f"{key}.OVERLAP_THRESHOLD", 0.8, published),
        ]
    return choices


def _of_objects(method: CfgNode, why: str) -> list[Choice]:
    """Return the lines with which several objects of a class are learned, where a model has not."""
    prefix = "MODEL.MASK_FORMER"
    changed = {key: value for key, value in _OF_OBJECTS.items() if method[key] != value}
    choices = [Choice(f"{prefix}.{key}", value, why) for key, value in changed.items()]
    if "MATCHING" in changed and method.NUM_OBJECT_QUERIES < _QUERIES:
        reason = "each finds one object; the source had one for each class"
        choices.append(Choice(f"{prefix}.NUM_OBJECT_QUERIES", _QUERIES, reason))
    if "MATCHING" in changed and method.DICE_WEIGHT != _DICE_WEIGHT:
        reason = "as published; the source's queries each had a class"
        choices.append(Choice(f"{prefix}.DICE_WEIGHT", _DICE_WEIGHT, reason))
    return choices
