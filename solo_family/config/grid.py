"""Checks of the keys that SOLO and SOLOv2 share: levels, grids, candidates."""

from detectron2.config import CfgNode

from ..errors import ConfigError
from .rules import check_one_of, check_same_length, get_key


def check_grid_keys(cfg: CfgNode, prefix: str) -> None:
    """Checks one method's keys.

    Args:
        cfg: the configuration.
        prefix: "MODEL.SOLO" or "MODEL.SOLOV2".

    Raises:
        ConfigError: names the key, its value, what is allowed.
    """
    method = get_key(cfg, prefix)
    per_level = ("INSTANCE_IN_FEATURES", "FPN_INSTANCE_STRIDES", "FPN_SCALE_RANGES", "NUM_GRIDS")
    check_same_length(cfg, [f"{prefix}.{key}" for key in per_level])
    check_one_of(cfg, f"{prefix}.TYPE_DCN", ("DCN", "DCNv2"))
    check_one_of(cfg, f"{prefix}.DCN_CONVS", ("all", "last"))
    check_one_of(cfg, f"{prefix}.SHARED_CELL", ("both", "last"))
    check_one_of(cfg, f"{prefix}.NMS_TYPE", ("matrix", "mask"))
    check_one_of(cfg, f"{prefix}.NMS_KERNEL", ("gaussian", "linear"))
    check_one_of(cfg, f"{prefix}.LOSS.DICE_NORMALIZER", ("pairs", "cells"))
    check_one_of(cfg, f"{prefix}.LOSS.FOCAL_USE_SIGMOID", (True,))
    for key in ("FPN_INSTANCE_STRIDES", "NUM_GRIDS"):
        if any(not isinstance(value, int) or value < 1 for value in method[key]):
            raise ConfigError(f"{prefix}.{key} is {method[key]}; whole numbers from 1 are needed.")
    for pair in method.FPN_SCALE_RANGES:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ConfigError(
                f"{prefix}.FPN_SCALE_RANGES has {pair}; each entry must be a pair: (low, high)."
            )
        low, high = pair
        if low > high:
            raise ConfigError(
                f"{prefix}.FPN_SCALE_RANGES has ({low}, {high}): the lower end comes first."
            )
