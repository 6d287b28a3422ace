"""From the backbone's features to one map of high resolution, with an embedding for every pixel."""

from .build import build_pixel_decoder
from .fpn import BasePixelDecoder
from .interface import PixelDecoder
from .per_pixel import PerPixelFeatures
from .transformer_encoder import TransformerEncoderPixelDecoder

__all__ = [
    "BasePixelDecoder",
    "PerPixelFeatures",
    "PixelDecoder",
    "TransformerEncoderPixelDecoder",
    "build_pixel_decoder",
]
