"""The methods. Importing this registers them in detectron2's META_ARCH registry."""

from ..backbone import timm_backbone, vgg  # noqa: F401
from .base import MaskSegmentor
from .instance_fcn import InstanceFCN
from .solov2 import SOLOv2

__all__ = ["InstanceFCN", "MaskSegmentor", "SOLOv2"]
