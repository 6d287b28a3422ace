"""The methods. Importing this registers them in detectron2's META_ARCH registry."""

from ..modeling import timm_backbone  # noqa: F401
from ..modeling.base import MaskSegmentor
from .instance_fcn import vgg  # noqa: F401
from .instance_fcn.model import InstanceFCN
from .mask_former import per_pixel as per_pixel_baseline  # noqa: F401
from .mask_former import swin  # noqa: F401
from .mask_former.model import MaskFormer
from .solo.model import SOLO, DecoupledSOLO
from .solov2.model import SOLOv2
from .sparse_inst import backbones as sparse_inst_backbones  # noqa: F401
from .sparse_inst.model import SparseInst

__all__ = [
    "SOLO",
    "DecoupledSOLO",
    "InstanceFCN",
    "MaskFormer",
    "MaskSegmentor",
    "SOLOv2",
    "SparseInst",
]
