"""The config of a published model: it needs no dataset, and names nothing of this machine."""

import os
from collections.abc import Mapping
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from ..checkpoint.convert import nested
from ..config import get_cfg
from ..config.common import add_common_config
from ..config.load import dotted_values
from ..config.rules import as_lists
from ..config.unread import is_under
from ..data.formats.classes import class_ids, class_names, is_class_agnostic, num_classes, stuff_ids
from ..fetch.names import WEIGHTS
from ..files import expand_path
from ..registry import METHODS, Method, resolve

# Without it detectron2 warns of a config whose version it infers.
_VERSION = "VERSION"
# Words, and not paths, whatever they look like.
_WORDS = ("MODEL.CLASS_NAMES",)
# They describe a machine or a run, and not the model.
_OF_A_RUN = ("DATASETS", "OUTPUT_DIR", "MODEL.DEVICE", "MODEL.TIMM.WEIGHTS", "MODEL.VGG.WEIGHTS")


def portable(cfg: CfgNode) -> CfgNode:
    """Return a configuration that stands alone.

    Classes are written out, and keys of datasets, of weights and of the machine have their default
    values.

    Args:
        cfg: of a trained model of `METHODS`.

    Raises:
        ConfigError, DataError: the number of classes depends on a dataset that is not here.
    """
    result = cfg.clone()
    result.defrost()
    key = METHODS[cfg.MODEL.META_ARCHITECTURE].num_classes_key
    count = num_classes(cfg, key)
    if not is_class_agnostic(cfg):
        result.merge_from_list([key, count])
        result.MODEL.CLASS_NAMES = class_names(cfg)
        result.MODEL.CLASS_IDS = class_ids(cfg)
        result.MODEL.STUFF_IDS = list(stuff_ids(cfg, count))
    defaults = dotted_values(get_cfg())
    for name, value in dotted_values(result).items():
        is_path = name not in _WORDS and _names_a_path(value)
        if name in defaults and (is_path or is_under(name, _OF_A_RUN)):
            result.merge_from_list([name, defaults[name]])
    result.DATASETS.TRAIN = result.DATASETS.TEST = ()
    result.MODEL.WEIGHTS = WEIGHTS[0]
    return result


def as_yaml(cfg: CfgNode) -> str:
    """Return a configuration as a file that other versions of detectron2 read, too.

    Of detectron2's keys it has those whose values differ from the defaults, and of this package's
    all of the method's, so that later defaults change nothing.

    Args:
        cfg: result of `portable`.
    """
    theirs = dotted_values(get_detectron2_cfg())
    foreign = _keys_of_other_methods(METHODS[cfg.MODEL.META_ARCHITECTURE])
    kept = {
        key: as_lists(value)
        for key, value in dotted_values(cfg).items()
        if key not in foreign
        and not (isinstance(value, Mapping) and not value)
        and (key == _VERSION or key not in theirs or as_lists(theirs[key]) != as_lists(value))
    }
    text = yaml.safe_dump(nested(kept), sort_keys=True, allow_unicode=True, width=100)
    return f"# Written by `python -m solo_family publish`; MODEL.WEIGHTS is beside it.\n{text}"


def _names_a_path(value: Any) -> bool:
    """Return whether a value is, or has, the path of a file here or an absolute one."""
    if isinstance(value, str):
        path = expand_path(value)
        return path != value or os.path.isabs(path) or (os.sep in path and os.path.exists(path))
    return isinstance(value, list | tuple) and any(map(_names_a_path, value))


def _keys_of_other_methods(method: Method) -> set[str]:
    """Return the keys that only other methods read."""
    keys = {each.meta_arch: _keys_of(each) for each in METHODS.values()}
    return set().union(*keys.values()) - keys[method.meta_arch]


def _keys_of(method: Method) -> set[str]:
    cfg = get_detectron2_cfg()
    add_common_config(cfg)
    common = set(dotted_values(cfg))
    if method.add_config is not None:
        resolve(method.add_config)(cfg)
    return set(dotted_values(cfg)) - common
