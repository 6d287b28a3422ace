"""The methods. Importing this registers them in detectron2's META_ARCH registry."""

from .. import timm_backbone  # noqa: F401
from ..backbone import sparse_inst_backbones, swin, vgg  # noqa: F401
from ..base import MaskSegmentor
from ..heads import per_pixel_baseline  # noqa: F401
from .instance_fcn import InstanceFCN
from .mask_former import MaskFormer
from .solo import SOLO, DecoupledSOLO
from .solov2 import SOLOv2
from .sparse_inst import SparseInst

__all__ = [
    "SOLO",
    "DecoupledSOLO",
    "InstanceFCN",
    "MaskFormer",
    "MaskSegmentor",
    "SOLOv2",
    "SparseInst",
]
