"""Decode the backbone's features into one high-resolution map with an embedding for every pixel.

Importing this module registers the decoders in detectron2's SEM_SEG_HEADS registry. B images, C
channels of a feature, D those of the transformer, E those of the embedding, H W of the map, h w of
a coarser one.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from fvcore.nn import weight_init
from torch import Tensor, nn

from ...errors import ConfigError
from ...modeling.layers import make_norm
from ...modeling.shapes import channels_of, check_features, stride_of
from ...ops.resize_maps import add_enlarged
from .transformer import TransformerEncoder, as_sequence, initialise, sine_position_encoding


class PixelFeatures(NamedTuple):
    """The output of a pixel decoder.

    Attributes:
        mask_features: an embedding for every pixel, [B, E, H, W].
        transformer_features: input of the transformer decoder, [B, D, h, w]; None if that is a
            feature of the backbone.
    """

    mask_features: Tensor
    transformer_features: Tensor | None


class PixelDecoder(nn.Module, ABC):
    """Interface of modules that turn the backbone's features into one map of pixel embeddings.

    Attributes:
        mask_dim: channels of the embedding, E.
        stride: the stride of the map.
    """

    mask_dim: int
    stride: int

    @abstractmethod
    def forward_features(self, features: dict[str, Tensor]) -> PixelFeatures:
        """Decode the backbone's features, [B, C, h, w] each."""


class BasePixelDecoder(PixelDecoder):
    """MaskFormer's own pixel decoder, a light FPN (arXiv 2107.06278, section 4.1).

    It consists of lateral 1x1 convolutions, nearest-neighbour upsampling, sums, and 3x3
    convolutions.

    Parameters are named as in the official code, by level, the finest first: `adapter_1` is the
    finest lateral convolution and `layer_1` the one after its sum.

    Args:
        input_shape: channels and stride of the features; used in order of increasing stride.
        channels: number of channels of all levels.
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
        by_stride = sorted(input_shape.items(), key=lambda item: stride_of(item[1]))
        self.in_features = [name for name, _ in by_stride]
        self.stride = stride_of(by_stride[0][1])
        self.mask_dim = mask_dim
        self.channels = channels
        for level, (_, shape) in enumerate(by_stride[:-1], start=1):
            self.add_module(f"adapter_{level}", _conv(channels_of(shape), channels, 1, norm))
            self.add_module(f"layer_{level}", _conv(channels, channels, 3, norm, F.relu))
        last = _conv(self.coarsest_channels(by_stride[-1][1]), channels, 3, norm, F.relu)
        self.add_module(f"layer_{len(by_stride)}", last)
        self.mask_features = Conv2d(channels, mask_dim, kernel_size=3, padding=1)
        weight_init.c2_xavier_fill(self.mask_features)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read the arguments from `cfg.MODEL.SEM_SEG_HEAD`."""
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": {name: input_shape[name] for name in head.IN_FEATURES},
            "channels": head.CONVS_DIM,
            "mask_dim": head.MASK_DIM,
            "norm": head.NORM,
        }

    def coarsest_channels(self, shape: ShapeSpec) -> int:
        """Return the number of channels of the coarsest level as it enters the decoder."""
        return channels_of(shape)

    def coarsest(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the coarsest level as it enters the decoder, and the transformer's input."""
        return x, None

    def forward_features(self, features: dict[str, Tensor]) -> PixelFeatures:
        """Decode the backbone's features, [B, C, h, w] each."""
        levels = len(self.in_features)
        x, transformer_features = self.coarsest(features[self.in_features[-1]])
        y = self.get_submodule(f"layer_{levels}")(x)
        for level in range(levels - 1, 0, -1):
            lateral = self.get_submodule(f"adapter_{level}")(features[self.in_features[level - 1]])
            y = add_enlarged(lateral, y)
            y = self.get_submodule(f"layer_{level}")(y)
        return PixelFeatures(self.mask_features(y), transformer_features)


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


class TransformerEncoderPixelDecoder(BasePixelDecoder):
    """Run `BasePixelDecoder` after a transformer encoder over the coarsest level (section 4.3).

    Args:
        encoder: runs on that level; its channels are the decoder's.
        base: arguments of `BasePixelDecoder`.
    """

    @configurable
    def __init__(
        self, input_shape: dict[str, ShapeSpec], *, encoder: TransformerEncoder, **base: Any
    ) -> None:
        super().__init__(input_shape, **base)
        in_channels = channels_of(max(input_shape.values(), key=stride_of))
        self.input_proj = Conv2d(in_channels, self.channels, kernel_size=1)
        weight_init.c2_xavier_fill(self.input_proj)
        self.transformer = _EncoderOnly(encoder)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read the arguments from `cfg.MODEL.SEM_SEG_HEAD` and `cfg.MODEL.MASK_FORMER`."""
        transformer = cfg.MODEL.MASK_FORMER
        return {
            **super().from_config(cfg, input_shape),
            "encoder": TransformerEncoder(
                cfg.MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS,
                channels=cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM,
                num_heads=transformer.NHEADS,
                feedforward_channels=transformer.DIM_FEEDFORWARD,
                dropout=transformer.DROPOUT,
                pre_norm=transformer.PRE_NORM,
            ),
        }

    def coarsest_channels(self, shape: ShapeSpec) -> int:
        """Return the channels of the encoder."""
        return self.channels

    def coarsest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoded coarsest level, which is the transformer's input, too."""
        x = self.input_proj(x)
        position = sine_position_encoding(x, self.channels)
        encoded = self.transformer.encoder(as_sequence(x), as_sequence(position))
        x = encoded.transpose(1, 2).unflatten(2, x.shape[-2:])
        return x, x


class _EncoderOnly(nn.Module):
    """Give the encoder its name in official checkpoints: `transformer.encoder`."""

    def __init__(self, encoder: TransformerEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        initialise(self)


class PerPixelFeatures(PixelDecoder):
    """Use a per-pixel classifier without its last layer, and a convolution to the embedding (3.3).

    Args:
        head: a module of detectron2's SEM_SEG_HEADS registry, whose `layers` maps the backbone's
            features to logits, the last step being a convolution named `predictor`, as in
            SemSegFPNHead and DeepLabV3PlusHead.
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

    def forward_features(self, features: dict[str, Tensor]) -> PixelFeatures:
        """Decode the backbone's features, [B, C, h, w] each."""
        return PixelFeatures(self.mask_features(self.head.layers(features)), None)


def build_pixel_decoder(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> PixelDecoder:
    """Build `MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME`.

    It names an entry of detectron2's SEM_SEG_HEADS registry: a pixel decoder, with
    `forward_features`, or a per-pixel classifier, whose features are used.

    Returns:
        The decoder; a per-pixel classifier is wrapped in `PerPixelFeatures`.

    Raises:
        ConfigError: there is no such head, it needs features that the backbone does not provide, or
            it is neither of the two.
    """
    key = "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME"
    name = cfg.MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME
    registered = [registered for registered, _ in SEM_SEG_HEADS_REGISTRY]
    if name not in registered:
        raise ConfigError(f"{key} is {name!r}; allowed: {', '.join(registered)}.")
    check_features(
        "MODEL.SEM_SEG_HEAD.IN_FEATURES", cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES, input_shape
    )
    if name == "DeepLabV3PlusHead":
        _check_projections(cfg)
    decoder = SEM_SEG_HEADS_REGISTRY.get(name)(cfg, input_shape)
    if hasattr(decoder, "forward_features"):
        return decoder
    if hasattr(decoder, "layers") and isinstance(getattr(decoder, "predictor", None), nn.Conv2d):
        return PerPixelFeatures(decoder, cfg.MODEL.SEM_SEG_HEAD.MASK_DIM)
    raise ConfigError(
        f"{key} is {name!r}, which has neither `forward_features` nor `layers` before a "
        "convolution named `predictor`: its features can't be separated from its classifier."
    )


def _check_projections(cfg: CfgNode) -> None:
    """Check what detectron2's head asserts: all features but the coarsest have a projection."""
    head = cfg.MODEL.SEM_SEG_HEAD
    names, channels = list(head.IN_FEATURES), list(head.PROJECT_CHANNELS)
    if len(channels) != len(names) - 1:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS is {channels}, but DeepLabV3PlusHead projects "
            f"all but the coarsest of MODEL.SEM_SEG_HEAD.IN_FEATURES, {names}. Give "
            f"{len(names) - 1} numbers, one for each of these, or name {len(channels) + 1} "
            "features."
        )
