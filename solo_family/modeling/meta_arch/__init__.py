"""The methods. Importing this registers them in detectron2's META_ARCH registry."""

from ..backbone import swin, timm_backbone  # noqa: F401
from ..heads import per_pixel_baseline  # noqa: F401
from .base import MaskSegmentor
from .mask_former import MaskFormer
from .solov2 import SOLOv2

__all__ = ["MaskFormer", "MaskSegmentor", "SOLOv2"]
