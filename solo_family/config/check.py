"""Refuses configurations that can't work, before anything is built."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from ..errors import ConfigError


def check_config(cfg: CfgNode) -> None:
    """Checks the shared keys and those of the chosen method.

    Raises:
        ConfigError: names the key, its value, what is allowed.
    """
    _one_of(cfg, "SOLVER.OPTIMIZER", ("", "SGD", "AdamW"))
    _one_of(cfg, "SOLVER.AMP.PRECISION", ("float16", "bfloat16"))
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
    _one_of(cfg, f"{prefix}.TYPE_DCN", ("DCN", "DCNv2"))
    _one_of(cfg, f"{prefix}.DCN_CONVS", ("all", "last"))
    _one_of(cfg, f"{prefix}.MASK_COORD_LEVEL", ("fourth", "last"))
    _one_of(cfg, f"{prefix}.SHARED_CELL", ("both", "last"))
    _one_of(cfg, f"{prefix}.NMS_TYPE", ("matrix", "mask"))
    _one_of(cfg, f"{prefix}.NMS_KERNEL", ("gaussian", "linear"))
    _one_of(cfg, f"{prefix}.LOSS.DICE_NORMALIZER", ("pairs", "cells"))
    _one_of(cfg, f"{prefix}.LOSS.FOCAL_USE_SIGMOID", (True,))
    if solov2.NUM_KERNELS != solov2.NUM_MASKS:
        raise ConfigError(
            f"{prefix}.NUM_KERNELS is {solov2.NUM_KERNELS} and {prefix}.NUM_MASKS is "
            f"{solov2.NUM_MASKS}; kernels are applied to the mask features: the two must be equal."
        )
    for low, high in solov2.FPN_SCALE_RANGES:
        if low > high:
            raise ConfigError(
                f"{prefix}.FPN_SCALE_RANGES has ({low}, {high}): the lower end comes first."
            )


_METHOD_CHECKS: dict[str, Callable[[CfgNode], None]] = {"SOLOv2": _check_solov2}


def _one_of(cfg: CfgNode, key: str, allowed: Iterable[Any]) -> None:
    value = get_key(cfg, key)
    if value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise ConfigError(f"{key} is {value!r}; allowed: {choices}.")


def _same_length(cfg: CfgNode, keys: list[str]) -> None:
    lengths = {key: len(get_key(cfg, key)) for key in keys}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise ConfigError(f"One entry per level is needed in each of these keys: {listed}.")
