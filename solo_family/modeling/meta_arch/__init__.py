"""The methods. Importing this registers them in detectron2's META_ARCH registry."""

from ..backbone import sparse_inst_backbones, timm_backbone, vgg  # noqa: F401
from .base import MaskSegmentor
from .instance_fcn import InstanceFCN
from .solo import SOLO, DecoupledSOLO
from .solov2 import SOLOv2
from .sparse_inst import SparseInst

__all__ = ["SOLO", "DecoupledSOLO", "InstanceFCN", "MaskSegmentor", "SOLOv2", "SparseInst"]
