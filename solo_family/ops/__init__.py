"""Provide operators on masks, with their kernels for GPUs, which need nothing but torch.

Each operator checks its arguments without waiting for a device, and raises ValueError.
"""

from . import self_checks as _self_checks  # noqa: F401  # what GPU kernels are tried with
from .decode_masks import decode_masks, dynamic_conv
from .mask_nms import fast_nms, mask_nms, soft_nms
from .masks import mask_boxes, mask_iou
from .matrix_nms import matrix_nms
from .pack_masks import pack_masks
from .packed_masks import PackedMasks, unpack_masks
from .point_nms import point_nms
from .resize import resize_masks, resize_masks_with_boxes
from .run_lengths import run_lengths

__all__ = [
    "PackedMasks",
    "decode_masks",
    "dynamic_conv",
    "fast_nms",
    "mask_boxes",
    "mask_iou",
    "mask_nms",
    "matrix_nms",
    "pack_masks",
    "point_nms",
    "resize_masks",
    "resize_masks_with_boxes",
    "run_lengths",
    "soft_nms",
    "unpack_masks",
]
