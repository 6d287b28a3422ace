"""The features of a per-pixel classifier as a pixel decoder (arXiv 2107.06278, section 3.4)."""

from typing import Any

from detectron2.layers import Conv2d
from fvcore.nn import weight_init
from torch import Tensor, nn

from .interface import PixelDecoder


class PerPixelFeatures(PixelDecoder):
    """Any semantic segmentation head, up to its classifier, and a convolution to the embedding.

    Args:
        head: a module of detectron2's SEM_SEG_HEADS registry, whose `layers` maps the backbone's
            features to the logits that its `predictor`, a convolution, gives last. SemSegFPNHead
            and DeepLabV3PlusHead are such.
        mask_dim: channels of the embedding.
    """

    def __init__(self, head: Any, mask_dim: int) -> None:
        super().__init__()
        self.mask_dim = mask_dim
        self.stride = head.common_stride
        self.mask_features = Conv2d(head.predictor.in_channels, mask_dim, kernel_size=3, padding=1)
        weight_init.c2_xavier_fill(self.mask_features)
        head.predictor = nn.Identity()
        self.head = head

    def forward_features(self, features: dict[str, Tensor]) -> tuple[Tensor, None]:
        return self.mask_features(self.head.layers(features)), None
