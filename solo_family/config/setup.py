"""Turn a config file and KEY VALUE pairs into a checked configuration."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from ..errors import ConfigError
from ..fetch.names import NamedConfig, check_name, is_name, named_config
from ..registry import METHODS, import_own_code, resolve
from .check import check_config
from .common import add_common_config
from .given import check_given
from .load import merge_file, merge_pairs


def add_solo_family_config(cfg: CfgNode) -> None:
    """Add this package's keys to a detectron2 configuration, in place; its own keys stay.

    Raises:
        ConfigError: `SOLO_FAMILY_IMPORT` names a module that does not exist.
    """
    import_own_code()  # the processes of several GPUs, and those of Ray, begin here
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


def setup_cfg(config_file: str, opts: Sequence[str] = (), *, trained: bool = True) -> CfgNode:
    """Read a configuration for training or inference.

    Args:
        config_file: path of a yaml file, which may inherit through `_BASE_`, or a name of
            `fetch.names`.
        opts: `KEY VALUE` pairs that override it.
        trained: with a name of the zoo, `MODEL.WEIGHTS` are the published weights, and not those
            that training begins with.

    Returns:
        The checked configuration, not frozen. On a machine without a GPU, `MODEL.DEVICE cuda`
        becomes `cpu`, with a warning, because it is detectron2's default and not the user's choice.

    Raises:
        ConfigError: a file is missing, a key is unknown, or a value can't work.
        DataError: the config is on the Hub and can't be downloaded.
    """
    cfg = get_cfg()
    named = named_config(config_file)
    merge_file(cfg, str(named.path))
    cfg.MODEL.WEIGHTS = _own_weights(named, cfg.MODEL.WEIGHTS, trained)
    merge_pairs(cfg, opts)
    check_name(cfg.MODEL.WEIGHTS)
    if cfg.MODEL.DEVICE == "cuda" and "MODEL.DEVICE" not in opts and not torch.cuda.is_available():
        logging.getLogger("solo_family").warning("No CUDA device: running on the CPU.")
        cfg.MODEL.DEVICE = "cpu"
    _check_device(cfg.MODEL.DEVICE)
    check_config(cfg)
    check_given(cfg, get_cfg(), opts)
    return cfg


def _own_weights(named: NamedConfig, written: str, trained: bool) -> str:
    """Return the weights that a config names, wherever it is.

    Args:
        named: the config.
        written: its `MODEL.WEIGHTS`.
        trained: see `setup_cfg`.

    Raises:
        ConfigError: the text is the path of two files.
    """
    if named.weights and trained:
        return named.weights
    is_relative = bool(written) and not (
        is_name(written) or "://" in written or os.path.isabs(os.path.expanduser(written))
    )
    is_beside = is_relative and os.sep not in written
    if named.folder is not None:
        # Other paths are of what a run began with; its own weights have a usual name.
        inside = f"{named.folder.name}/{written}".lstrip("/") if is_beside else named.folder.name
        return str(named.folder._replace(name=inside))
    beside = named.path.parent / written
    if not is_relative or not beside.is_file():
        return written
    if not Path(written).is_file():
        return str(beside)
    if not beside.samefile(written):
        raise ConfigError(
            f"MODEL.WEIGHTS of {named.path} is {written}, which is beside it and in the current "
            "folder. Give the whole path of one of the two: MODEL.WEIGHTS "
            f"{beside.resolve()}, for instance."
        )
    return written


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
