"""Choose the config that a recipe inherits from, and the weights that it starts with."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint.efficientnet_lite0 import PACKAGE, write_timm_weights
from ..model_zoo import get_config_file
from ..registry import METHODS
from .choice import Choice
from .machine import Machine

# The recipes that are measured on a hundred images; other methods have their quick start's.
_BASES: Mapping[str, str] = {
    "SOLO": "benchmarks/pennfudan_solo.yaml",
    "DecoupledSOLO": "benchmarks/pennfudan_decoupled_solo.yaml",
    "SOLOv2": "benchmarks/pennfudan_solov2.yaml",
    "SparseInst": "benchmarks/pennfudan_sparse_inst.yaml",
    "InstanceFCN": "benchmarks/pennfudan_instance_fcn.yaml",
}
# Of labels that are pictures, by method and task.
_LABEL_BASES: Mapping[tuple[str, str], str] = {
    ("MaskFormer", "semantic"): "benchmarks/camvid_mask_former.yaml",
    ("MaskFormer", "panoptic"): "benchmarks/coco_panoptic_two_mask_former.yaml",
    ("SparseInst", "panoptic"): "benchmarks/coco_panoptic_two_sparse_inst.yaml",
}
_LITE0 = "efficientnet_lite0.pth"
_DOWNLOADED = "timm downloads its ImageNet weights"


@dataclass(frozen=True)
class Base:
    """What a recipe begins with.

    Attributes:
        config: the path of the config that it inherits from.
        choices: lines about the model and its weights.
        is_trained: whether the weights are a whole model's, and not a backbone's.
        notes: sentences for the user.
    """

    config: Path
    choices: tuple[Choice, ...]
    is_trained: bool = False
    notes: tuple[str, ...] = ()


def backbone_base(method: str, machine: Machine, folder: Path, task: str = "instance") -> Base:
    """Return the base for training from a pretrained backbone.

    EfficientNet-Lite0 on a CPU: its weights are written into `folder` where the package that has
    them is installed. ResNet-50 on a GPU.

    Args:
        method: the name in `MODEL.META_ARCHITECTURE`.
        machine: what trains.
        folder: of the recipe.
        task: of the labels: "instance", "semantic" or "panoptic".

    Raises:
        OSError: the weights can't be written.
    """
    name = _BASES.get(method) if task == "instance" else _LABEL_BASES.get((method, task))
    config = Path(get_config_file(name or METHODS[method].quickstart_config))
    choices = [
        *(_resnet50() if machine.gpu else _lite0(folder)),
        Choice("MODEL.TIMM.FREEZE", [], "all of the backbone is trained"),
    ]
    if method == "SparseInst" and not machine.gpu:
        # Measured with EfficientNet-Lite0 (docs/results.md): seeds are closer to one another.
        choices.append(Choice("MODEL.SPARSE_INST.UNIT_INIT", True, "no seed begins far off"))
    return Base(config, tuple(choices))


def _lite0(folder: Path) -> list[Choice]:
    """Return the lines of the measured recipes' backbone, which the bases name already."""
    if importlib.util.find_spec(PACKAGE) is None:
        return [Choice("MODEL.TIMM.WEIGHTS", "pretrained", f"{_DOWNLOADED} (Apache-2.0)")]
    weights = str(write_timm_weights(folder / _LITE0))
    return [Choice("MODEL.TIMM.WEIGHTS", weights, "ImageNet weights, Apache-2.0")]


def _resnet50() -> list[Choice]:
    return [
        Choice("MODEL.TIMM.NAME", "resnet50", "a GPU has time for it"),
        Choice("MODEL.TIMM.WEIGHTS", "pretrained", f"{_DOWNLOADED} (Apache-2.0)"),
        Choice("MODEL.PIXEL_MEAN", [123.675, 116.28, 103.53], "of these weights"),
        Choice("MODEL.PIXEL_STD", [58.395, 57.12, 57.375], "of these weights"),
    ]
