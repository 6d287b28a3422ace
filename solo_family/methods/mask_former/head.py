"""MaskFormer's head: pixel decoder and transformer predictor (arXiv 2107.06278, section 3.3).

B images, N queries, K classes, E channels of the embeddings, L decoder layers.
"""

from typing import Any, NamedTuple

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...config.rules import check_features
from ...data.formats.classes import num_classes
from ...errors import ConfigError
from .pixel_decoder import PixelDecoder, build_pixel_decoder
from .transformer_predictor import TransformerPredictor


class MaskPredictions(NamedTuple):
    """What the head gives: masks are still embeddings, so that only those needed are computed.

    Attributes:
        class_logits: [L, B, N, K + 1], "no object" last.
        mask_embeddings: [L, B, N, E].
        mask_features: [B, E, h, w]; the logits of a mask are its embedding times these.
    """

    class_logits: Tensor
    mask_embeddings: Tensor
    mask_features: Tensor


class MaskFormerHead(nn.Module):
    """Classifies masks.

    Args:
        pixel_decoder: see `build_pixel_decoder`.
        predictor: from features to classes and mask embeddings.
        transformer_in_feature: what the predictor sees: a feature of the backbone, or
            "transformer_encoder", the pixel decoder's.
        num_classes: K.
    """

    @configurable
    def __init__(
        self,
        *,
        pixel_decoder: PixelDecoder,
        predictor: TransformerPredictor,
        transformer_in_feature: str,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.pixel_decoder = pixel_decoder
        self.predictor = predictor
        self.transformer_in_feature = transformer_in_feature
        self.num_classes = num_classes

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        classes = num_classes(cfg, "MODEL.SEM_SEG_HEAD.NUM_CLASSES")
        feature = cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE
        return {
            "pixel_decoder": build_pixel_decoder(cfg, input_shape),
            "predictor": TransformerPredictor(
                cfg, transformer_in_channels(cfg, input_shape), classes
            ),
            "transformer_in_feature": feature,
            "num_classes": classes,
        }

    def forward(self, features: dict[str, Tensor]) -> MaskPredictions:
        mask_features, encoded = self.pixel_decoder.forward_features(features)
        seen = transformer_input(self.transformer_in_feature, features, encoded)
        class_logits, mask_embeddings = self.predictor(seen)
        return MaskPredictions(class_logits, mask_embeddings, mask_features)


def transformer_in_channels(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> int:
    """Returns the channels of `MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE`.

    Raises:
        ConfigError: neither the backbone nor the pixel decoder gives it.
    """
    key = "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE"
    feature = cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE
    decoder = cfg.MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME
    if feature != "transformer_encoder":
        check_features(key, [feature], input_shape)
        return input_shape[feature].channels
    if decoder != "TransformerEncoderPixelDecoder":
        raise ConfigError(
            f"{key} is 'transformer_encoder', which {decoder} does not have. Set "
            "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME TransformerEncoderPixelDecoder, or name one of "
            f"the backbone's features: {', '.join(input_shape)}."
        )
    return cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM


def transformer_input(name: str, features: dict[str, Tensor], encoded: Tensor | None) -> Tensor:
    """Returns the pixel decoder's features, or those of the backbone that are named."""
    if name != "transformer_encoder":
        return features[name]
    assert encoded is not None
    return encoded
