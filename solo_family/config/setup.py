"""Turn a config file and KEY VALUE pairs into a checked configuration."""

import logging
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from ..errors import ConfigError
from ..registry import METHODS, resolve
from .check import check_config
from .common import add_common_config
from .load import merge_file, merge_pairs


def add_solo_family_config(cfg: CfgNode) -> None:
    """Add this package's keys to a detectron2 configuration, in place; its own keys stay."""
    add_common_config(cfg)
    # Two methods may share their keys.
    for add_config in dict.fromkeys(method.add_config for method in METHODS.values()):
        if add_config is not None:
            resolve(add_config)(cfg)


def get_cfg() -> CfgNode:
    """Return detectron2's default configuration with this package's keys added."""
    cfg = get_detectron2_cfg()
    add_solo_family_config(cfg)
    return cfg


def setup_cfg(config_file: str, opts: Sequence[str] = ()) -> CfgNode:
    """Read a configuration for training or inference.

    Args:
        config_file: path of a yaml file, which may inherit through `_BASE_`.
        opts: `KEY VALUE` pairs that override it.

    Returns:
        The checked configuration, not frozen. On a machine without a GPU, `MODEL.DEVICE cuda`
        becomes `cpu`, with a warning, because it is detectron2's default and not the user's choice.

    Raises:
        ConfigError: a file is missing, a key is unknown, or a value can't work.
    """
    cfg = get_cfg()
    merge_file(cfg, config_file)
    merge_pairs(cfg, opts)
    if cfg.MODEL.DEVICE == "cuda" and "MODEL.DEVICE" not in opts and not torch.cuda.is_available():
        logging.getLogger("solo_family").warning("No CUDA device: running on the CPU.")
        cfg.MODEL.DEVICE = "cpu"
    _check_device(cfg.MODEL.DEVICE)
    check_config(cfg)
    return cfg


def _check_device(name: str) -> None:
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"MODEL.DEVICE {name}: there is no CUDA device here. Set MODEL.DEVICE cpu, or install "
            "a CUDA build of torch and a driver."
        )
    try:
        torch.empty(0, device=name)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise ConfigError(
            f"MODEL.DEVICE {name}: there is no such device here. Allowed: {', '.join(there)}."
        ) from error
