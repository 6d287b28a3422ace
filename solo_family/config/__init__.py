"""The configuration: detectron2's, with this family's keys added."""

from .check import check_config
from .common import add_common_config
from .instance_fcn import add_instance_fcn_config
from .mask_former import add_mask_former_config
from .setup import add_solo_family_config, get_cfg, setup_cfg
from .solo import add_solo_config
from .solov2 import add_solov2_config
from .sparse_inst import add_sparse_inst_config

__all__ = [
    "add_common_config",
    "add_instance_fcn_config",
    "add_mask_former_config",
    "add_solo_config",
    "add_solo_family_config",
    "add_solov2_config",
    "add_sparse_inst_config",
    "check_config",
    "get_cfg",
    "setup_cfg",
]
