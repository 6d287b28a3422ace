"""The simple feature pyramid of ViTDet (Li et al., arXiv 2203.16527, section 3).

A plain transformer has maps of one stride. Deconvolutions make finer maps of its last one, pooling
makes coarser maps, and no coarse map is added to a fine one, as an FPN would do.

B images, C channels of a map, h w of a map.
"""

from collections.abc import Sequence

from detectron2.layers import Conv2d, batch_norm, get_norm
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn


def make_level(channels: int, stride: int, wanted: int) -> tuple[nn.Sequential, int]:
    """Return layers that make a map of another stride, and how many channels it has.

    A deconvolution of stride 2 halves the stride and the channels; a layer norm and GELU are
    between two of them. Max pooling doubles the stride.

    Args:
        channels: C of the map.
        stride: of the map, a power of two.
        wanted: stride of the result, a power of two.
    """
    layers: list[nn.Module] = []
    while stride > wanted:
        if layers:
            layers += [_layer_norm(channels), nn.GELU()]
        layers.append(nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2))
        channels, stride = channels // 2, stride // 2
    while stride < wanted:
        layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        stride *= 2
    return nn.Sequential(*layers), channels


def _layer_norm(channels: int) -> nn.Module:
    """Return detectron2's layer norm over channels, or timm's, as version 0.6 has none."""
    if hasattr(batch_norm, "LayerNorm"):
        return get_norm("LN", channels)
    from timm.layers import LayerNorm2d

    return LayerNorm2d(channels)


class SimpleFeaturePyramid(Backbone):
    """Give the levels of a plain transformer the same channels: p2 of res2, and so on.

    Args:
        bottom_up: the transformer; its features are already at the strides of the levels.
        in_features: names of its features.
        out_channels: of each level.
        norm: of the convolutions, by detectron2's name; "LN" as published.
    """

    def __init__(
        self, *, bottom_up: Backbone, in_features: Sequence[str], out_channels: int, norm: str
    ) -> None:
        super().__init__()
        shapes = bottom_up.output_shape()
        self.bottom_up = bottom_up
        self._in_features = sorted(in_features, key=lambda name: shapes[name].stride)
        self.levels = nn.ModuleDict(
            {
                name: nn.Sequential(
                    _convolution(shapes[name].channels, out_channels, 1, norm),
                    _convolution(out_channels, out_channels, 3, norm),
                )
                for name in self._in_features
            }
        )
        self.top_block = LastLevelMaxPool()
        strides = [shapes[name].stride or 1 for name in self._in_features]
        strides.append(2 * strides[-1])
        self._out_feature_strides = {f"p{s.bit_length() - 1}": s for s in strides}
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)

    @property
    def size_divisibility(self) -> int:
        """The number that the sides of an input should be multiples of."""
        return self._out_feature_strides[self._out_features[-2]]

    # detectron2 declares it without its argument.
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the levels by name, and one more by pooling, for images [B, C, H, W]."""
        features = self.bottom_up(x)
        levels = [self.levels[name](features[name]) for name in self._in_features]
        return dict(zip(self._out_features, [*levels, *self.top_block(levels[-1])]))


def _convolution(in_channels: int, out_channels: int, kernel: int, norm: str) -> Conv2d:
    return Conv2d(
        in_channels,
        out_channels,
        kernel_size=kernel,
        padding=kernel // 2,
        bias=not norm,
        norm=get_norm(norm, out_channels),
    )
