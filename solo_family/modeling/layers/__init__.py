"""Provide the layers that several heads share."""

from .conv_tower import ConvNormReLU, ConvTower, TowerOptions, make_norm
from .coord import append_coords, append_coords_to_levels, coordinate_maps, prepend_coords
from .deform_conv import DeformConv2d, torchvision_deform_conv
from .pooling import AdaptiveAveragePool

__all__ = [
    "AdaptiveAveragePool",
    "ConvNormReLU",
    "ConvTower",
    "DeformConv2d",
    "TowerOptions",
    "append_coords",
    "append_coords_to_levels",
    "coordinate_maps",
    "make_norm",
    "prepend_coords",
    "torchvision_deform_conv",
]
