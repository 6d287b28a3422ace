"""MaskFormer's own pixel decoder, a light FPN (arXiv 2107.06278, section 4.1).

B images, E channels of the embedding.
"""

from typing import Any

import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from fvcore.nn import weight_init
from torch import Tensor

from ....modeling.layers import make_norm
from .interface import PixelDecoder


class BasePixelDecoder(PixelDecoder):
    """Lateral 1x1 convolutions, upsampling by the nearest pixel, sums, 3x3 convolutions.

    Parameters are named as in the official code, by level, the finest first: `adapter_1` is the
    finest lateral convolution and `layer_1` the one after its sum.

    Args:
        input_shape: channels and stride of the features; used from the smallest stride on.
        channels: of all levels.
        mask_dim: E.
        norm: see `make_norm`.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        channels: int,
        mask_dim: int,
        norm: str = "GN",
    ) -> None:
        super().__init__()
        by_stride = sorted(input_shape.items(), key=lambda item: item[1].stride)
        self.in_features = [name for name, _ in by_stride]
        self.stride = by_stride[0][1].stride
        self.mask_dim = mask_dim
        self.channels = channels
        for level, (_, shape) in enumerate(by_stride[:-1], start=1):
            self.add_module(f"adapter_{level}", _conv(shape.channels, channels, 1, norm))
            self.add_module(f"layer_{level}", _conv(channels, channels, 3, norm, F.relu))
        last = _conv(self.coarsest_channels(by_stride[-1][1]), channels, 3, norm, F.relu)
        self.add_module(f"layer_{len(by_stride)}", last)
        self.mask_features = Conv2d(channels, mask_dim, kernel_size=3, padding=1)
        weight_init.c2_xavier_fill(self.mask_features)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": {name: input_shape[name] for name in head.IN_FEATURES},
            "channels": head.CONVS_DIM,
            "mask_dim": head.MASK_DIM,
            "norm": head.NORM,
        }

    def coarsest_channels(self, shape: ShapeSpec) -> int:
        """Returns the channels of what `coarsest` gives."""
        return shape.channels

    def coarsest(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns the coarsest level as it enters the decoder, and what the transformer sees."""
        return x, None

    def forward_features(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        levels = len(self.in_features)
        x, transformer_features = self.coarsest(features[self.in_features[-1]])
        y = self.get_submodule(f"layer_{levels}")(x)
        for level in range(levels - 1, 0, -1):
            lateral = self.get_submodule(f"adapter_{level}")(features[self.in_features[level - 1]])
            y = lateral + F.interpolate(y, size=lateral.shape[-2:], mode="nearest")
            y = self.get_submodule(f"layer_{level}")(y)
        return self.mask_features(y), transformer_features


def _conv(
    in_channels: int, channels: int, kernel_size: int, norm: str, activation: Any = None
) -> Conv2d:
    conv = Conv2d(
        in_channels,
        channels,
        kernel_size=kernel_size,
        padding=kernel_size // 2,
        bias=norm == "",
        norm=make_norm(norm, channels),
        activation=activation,
    )
    weight_init.c2_xavier_fill(conv)
    return conv
