"""The configuration: detectron2's, with this family's keys added."""

from ..methods.instance_fcn.config import add_instance_fcn_config
from ..methods.mask_former.config import add_mask_former_config
from ..methods.solo.config import add_solo_config
from ..methods.solov2.config import add_solov2_config
from ..methods.sparse_inst.config import add_sparse_inst_config
from .check import check_config
from .common import add_common_config
from .setup import add_solo_family_config, get_cfg, setup_cfg

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
