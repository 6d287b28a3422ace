"""The configuration: detectron2's, with this family's keys added."""

from .check import check_config
from .common import add_common_config
from .mask_former import add_mask_former_config
from .setup import add_solo_family_config, get_cfg, setup_cfg
from .solov2 import add_solov2_config

__all__ = [
    "add_common_config",
    "add_mask_former_config",
    "add_solo_family_config",
    "add_solov2_config",
    "check_config",
    "get_cfg",
    "setup_cfg",
]
