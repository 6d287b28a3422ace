"""Refuses configurations that can't work, before anything is built."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY

from ..errors import ConfigError

LR_SCHEDULES = (
    "WarmupMultiStepLR",
    "WarmupCosineLR",
    "WarmupStepWithFixedGammaLR",
    "WarmupPolyLR",
)


def check_config(cfg: CfgNode) -> None:
    """Checks the shared keys and those of the chosen method.

    Raises:
        ConfigError: names the key, its value, what is allowed.
    """
    check_one_of(cfg, "SOLVER.OPTIMIZER", ("", "SGD", "AdamW"))
    check_one_of(cfg, "SOLVER.AMP.PRECISION", ("float16", "bfloat16"))
    check_one_of(cfg, "SOLVER.LR_SCHEDULER_NAME", LR_SCHEDULES)
    check_one_of(cfg, "SOLVER.WARMUP_METHOD", ("linear", "constant"))
    check_one_of(cfg, "MODEL.META_ARCHITECTURE", [name for name, _ in META_ARCH_REGISTRY])
    check_one_of(cfg, "MODEL.BACKBONE.NAME", [name for name, _ in BACKBONE_REGISTRY])
    _check_backbone_features(cfg)
    if cfg.SOLVER.BACKBONE_MULTIPLIER < 0:
        raise ConfigError(
            f"SOLVER.BACKBONE_MULTIPLIER is {cfg.SOLVER.BACKBONE_MULTIPLIER}; "
            "it must be positive, or 0 for the method's own."
        )
    check_method = _METHOD_CHECKS.get(cfg.MODEL.META_ARCHITECTURE)
    if check_method is not None:
        check_method(cfg)


def get_key(cfg: CfgNode, key: str) -> Any:
    """Returns the value of a dotted key."""
    for part in key.split("."):
        cfg = getattr(cfg, part)
    return cfg


def check_one_of(cfg: CfgNode, key: str, allowed: Sequence[Any]) -> None:
    """Refuses a value that is not among those allowed.

    Raises:
        ConfigError: names the key, its value, and what is allowed.
    """
    value = get_key(cfg, key)
    if value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise ConfigError(f"{key} is {value!r}; allowed: {choices}.")


def check_channels(key: str, value: int, default: int, actual: int) -> None:
    """Refuses a channel count that the user set and that isn't the backbone's.

    Raises:
        ConfigError: `value` is neither the key's default nor what the backbone gives.
    """
    if value not in (default, actual):
        raise ConfigError(
            f"{key} is {value}, but the features have {actual} channels. "
            f"Set {key} {actual} (or leave it out), or change MODEL.FPN.OUT_CHANNELS."
        )


def check_features(key: str, names: Sequence[str], shapes: Mapping[str, ShapeSpec]) -> None:
    """Refuses names of features that the backbone does not give.

    Raises:
        ConfigError: names them, and those that it gives.
    """
    unknown = [name for name in names if name not in shapes]
    if unknown:
        raise ConfigError(
            f"{key} has {', '.join(unknown)}, which the backbone does not give. "
            f"It gives {', '.join(shapes)}."
        )


def _check_solov2(cfg: CfgNode) -> None:
    prefix = "MODEL.SOLOV2"
    solov2 = cfg.MODEL.SOLOV2
    _same_length(
        cfg,
        [
            f"{prefix}.{key}"
            for key in (
                "INSTANCE_IN_FEATURES",
                "FPN_INSTANCE_STRIDES",
                "FPN_SCALE_RANGES",
                "NUM_GRIDS",
            )
        ],
    )
    check_one_of(cfg, f"{prefix}.TYPE_DCN", ("DCN", "DCNv2"))
    check_one_of(cfg, f"{prefix}.DCN_CONVS", ("all", "last"))
    check_one_of(cfg, f"{prefix}.MASK_COORD_LEVEL", ("fourth", "last"))
    check_one_of(cfg, f"{prefix}.SHARED_CELL", ("both", "last"))
    check_one_of(cfg, f"{prefix}.NMS_TYPE", ("matrix", "mask"))
    check_one_of(cfg, f"{prefix}.NMS_KERNEL", ("gaussian", "linear"))
    check_one_of(cfg, f"{prefix}.LOSS.DICE_NORMALIZER", ("pairs", "cells"))
    check_one_of(cfg, f"{prefix}.LOSS.FOCAL_USE_SIGMOID", (True,))
    if solov2.NUM_KERNELS != solov2.NUM_MASKS:
        raise ConfigError(
            f"{prefix}.NUM_KERNELS is {solov2.NUM_KERNELS} and {prefix}.NUM_MASKS is "
            f"{solov2.NUM_MASKS}; kernels are applied to the mask features: the two must be equal."
        )
    for key in ("FPN_INSTANCE_STRIDES", "NUM_GRIDS"):
        if any(not isinstance(value, int) or value < 1 for value in solov2[key]):
            raise ConfigError(f"{prefix}.{key} is {solov2[key]}; whole numbers from 1 are needed.")
    for pair in solov2.FPN_SCALE_RANGES:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ConfigError(
                f"{prefix}.FPN_SCALE_RANGES has {pair}; each entry must be a pair: (low, high)."
            )
        low, high = pair
        if low > high:
            raise ConfigError(
                f"{prefix}.FPN_SCALE_RANGES has ({low}, {high}): the lower end comes first."
            )


def _check_backbone_features(cfg: CfgNode) -> None:
    """Checks the names that detectron2's ResNet and FPN look up; timm's backbone checks its own."""
    name = cfg.MODEL.BACKBONE.NAME
    sources = {"build_resnet_fpn_backbone": "RESNETS", "build_timm_fpn_backbone": "TIMM"}
    if name == "build_resnet_fpn_backbone":
        _check_names(cfg, "MODEL.RESNETS.OUT_FEATURES", ["stem", "res2", "res3", "res4", "res5"])
    if name in sources:
        given = f"MODEL.{sources[name]}.OUT_FEATURES"
        _check_names(cfg, "MODEL.FPN.IN_FEATURES", get_key(cfg, given), f" ({given})")


def _check_names(cfg: CfgNode, key: str, allowed: Sequence[str], source: str = "") -> None:
    names = get_key(cfg, key)
    unknown = [str(name) for name in names if name not in allowed]
    if unknown or not names:
        raise ConfigError(
            f"{key} has {', '.join(unknown) or 'no names'}; allowed: {', '.join(allowed)}{source}."
        )


_METHOD_CHECKS: dict[str, Callable[[CfgNode], None]] = {"SOLOv2": _check_solov2}


def _same_length(cfg: CfgNode, keys: list[str]) -> None:
    lengths = {key: len(get_key(cfg, key)) for key in keys}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise ConfigError(f"One entry per level is needed in each of these keys: {listed}.")
