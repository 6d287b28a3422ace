"""The pixel decoder with transformer encoder layers (arXiv 2107.06278, section 4.1, panoptic)."""

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from fvcore.nn import weight_init
from torch import Tensor, nn

from ..position_encoding import sine_position_encoding
from ..transformer import TransformerEncoder, as_sequence, initialise
from .fpn import BasePixelDecoder


class _EncoderOnly(nn.Module):
    """Gives the encoder the name that official checkpoints have: `transformer.encoder`."""

    def __init__(self, encoder: TransformerEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        initialise(self)


class TransformerEncoderPixelDecoder(BasePixelDecoder):
    """`BasePixelDecoder` after a transformer encoder over the coarsest level.

    Args:
        encoder: over that level; its channels are the decoder's.
        base: arguments of `BasePixelDecoder`.
    """

    @configurable
    def __init__(
        self, input_shape: dict[str, ShapeSpec], *, encoder: TransformerEncoder, **base: Any
    ) -> None:
        super().__init__(input_shape, **base)
        in_channels = max(input_shape.values(), key=lambda shape: shape.stride).channels
        self.input_proj = Conv2d(in_channels, self.channels, kernel_size=1)
        weight_init.c2_xavier_fill(self.input_proj)
        self.transformer = _EncoderOnly(encoder)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
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
        return self.channels

    def coarsest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.input_proj(x)
        position = sine_position_encoding(x, self.channels)
        encoded = self.transformer.encoder(as_sequence(x), as_sequence(position))
        x = encoded.transpose(1, 2).unflatten(2, x.shape[-2:])
        return x, x
