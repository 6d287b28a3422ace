"""Predict classes and masks of N queries: MaskFormer's head (arXiv 2107.06278, section 3.3).

B images, N queries, K classes, C channels of a feature, E those of the embeddings, L decoder
layers, h w of the predicted masks.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from fvcore.nn import weight_init
from torch import Tensor, nn

from ...data.formats.classes import num_classes
from ...errors import ConfigError
from ...modeling.one_to_many import for_training_only
from ...modeling.shapes import channels_of, check_features
from .config import one_to_many
from .pixel_decoder import PixelDecoder, PixelFeatures, build_pixel_decoder
from .transformer import Transformer, sine_position_encoding


class MaskPredictions(NamedTuple):
    """The head's predictions, with masks as embeddings, so that only some need be computed.

    Attributes:
        class_logits: [L, B, N, K + 1], "no object" last.
        mask_embeddings: [L, B, N, E].
        mask_features: [B, E, h, w]; the logits of a mask are its embedding times these.
    """

    class_logits: Tensor
    mask_embeddings: Tensor
    mask_features: Tensor

    def last_layer(self) -> "MaskPredictions":
        """Return the predictions of the last layer, without L; results are made of these."""
        return MaskPredictions(self.class_logits[-1], self.mask_embeddings[-1], self.mask_features)


class MaskFormerHead(nn.Module):
    """Classify masks.

    Args:
        pixel_decoder: see `build_pixel_decoder`.
        predictor: maps features to classes and mask embeddings.
        transformer_in_feature: input of the predictor: a feature of the backbone, or
            "transformer_encoder", that of the pixel decoder.
        num_classes: K.
    """

    @configurable
    def __init__(
        self,
        *,
        pixel_decoder: PixelDecoder,
        predictor: "TransformerPredictor",
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
        """Read the arguments from `cfg.MODEL.SEM_SEG_HEAD` and `cfg.MODEL.MASK_FORMER`."""
        classes = num_classes(cfg, "MODEL.SEM_SEG_HEAD.NUM_CLASSES")
        feature = cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE
        pixel_decoder = build_pixel_decoder(cfg, input_shape)
        predictor = TransformerPredictor(cfg, transformer_in_channels(cfg, input_shape), classes)
        auxiliary = one_to_many(cfg.MODEL.MASK_FORMER).num_auxiliary
        if auxiliary:
            predictor.add_auxiliary_queries(auxiliary)
        return {
            "pixel_decoder": pixel_decoder,
            "predictor": predictor,
            "transformer_in_feature": feature,
            "num_classes": classes,
        }

    def forward(self, features: dict[str, Tensor]) -> MaskPredictions:
        """Predict from the backbone's features, [B, C, h, w] each."""
        pixels = decode_pixels(self.pixel_decoder, features)
        seen = transformer_input(self.transformer_in_feature, features, pixels)
        queries = self.predictor(seen)
        assert queries.class_logits is not None
        return MaskPredictions(queries.class_logits, queries.mask_embeddings, pixels.mask_features)


def transformer_in_channels(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> int:
    """Return the channels of `MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE`.

    Raises:
        ConfigError: neither the backbone nor the pixel decoder provides it.
    """
    key = "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE"
    feature = cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE
    decoder = cfg.MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME
    if feature != "transformer_encoder":
        check_features(key, [feature], input_shape)
        return channels_of(input_shape[feature])
    if decoder != "TransformerEncoderPixelDecoder":
        raise ConfigError(
            f"{key} is 'transformer_encoder', which {decoder} does not have. Set "
            "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME TransformerEncoderPixelDecoder, or name one of "
            f"the backbone's features: {', '.join(input_shape)}."
        )
    return cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM


def decode_pixels(decoder: PixelDecoder, features: dict[str, Tensor]) -> PixelFeatures:
    """Run a pixel decoder on the backbone's features."""
    # Decoders that others register return a plain tuple.
    return PixelFeatures(*decoder.forward_features(features))


def transformer_input(name: str, features: dict[str, Tensor], pixels: PixelFeatures) -> Tensor:
    """Return the pixel decoder's features for the transformer, or those of the backbone."""
    if name != "transformer_encoder":
        return features[name]
    assert pixels.transformer_features is not None
    return pixels.transformer_features


class QueryPredictions(NamedTuple):
    """The predictions of the queries, the last layer's last; L is 1 without deep supervision.

    Attributes:
        class_logits: [L, B, N, K + 1], "no object" last; None without classes.
        mask_embeddings: [L, B, N, E].
    """

    class_logits: Tensor | None
    mask_embeddings: Tensor


class TransformerPredictor(nn.Module):
    """Map features to N pairs of class logits and a mask embedding.

    Parameters are named as in the official code. In training the predictions of auxiliary queries,
    if there are any, come after the N others, see `modeling/one_to_many.py`.

    Args:
        in_channels: number of channels of the features.
        num_classes: K; None for mask embeddings only (PerPixelBaseline+).
        num_queries: N.
        hidden_dim: channels of the transformer.
        mask_dim: E.
        transformer: its channels are `hidden_dim`.
        enforce_input_proj: project the features even if they have `hidden_dim` channels.
        deep_supervision: return every layer's output, and not only the last one's.
    """

    @configurable
    def __init__(
        self,
        in_channels: int,
        num_classes: int | None,
        *,
        num_queries: int,
        hidden_dim: int,
        mask_dim: int,
        transformer: Transformer,
        enforce_input_proj: bool = False,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.deep_supervision = deep_supervision
        self.transformer = transformer
        self.query_embed = nn.Embedding(num_queries, hidden_dim)
        self.input_proj: nn.Module = nn.Identity()
        if in_channels != hidden_dim or enforce_input_proj:
            self.input_proj = Conv2d(in_channels, hidden_dim, kernel_size=1)
            weight_init.c2_xavier_fill(self.input_proj)
        self.class_embed = None
        if num_classes is not None:
            self.class_embed = nn.Linear(hidden_dim, num_classes + 1)
        self.mask_embed = MLP(hidden_dim, hidden_dim, hidden_dim, mask_dim)
        self.auxiliary_query_embed: nn.Embedding | None = None

    @classmethod
    def from_config(
        cls, cfg: CfgNode, in_channels: int, num_classes: int | None, *, num_queries: int = 0
    ) -> dict[str, Any]:
        """Read `MODEL.MASK_FORMER`; `num_queries`, unless it is 0, replaces its own number."""
        method = cfg.MODEL.MASK_FORMER
        return {
            "in_channels": in_channels,
            "num_classes": num_classes,
            "num_queries": num_queries or method.NUM_OBJECT_QUERIES,
            "hidden_dim": method.HIDDEN_DIM,
            "mask_dim": cfg.MODEL.SEM_SEG_HEAD.MASK_DIM,
            "transformer": Transformer(
                method.ENC_LAYERS,
                method.DEC_LAYERS,
                channels=method.HIDDEN_DIM,
                num_heads=method.NHEADS,
                feedforward_channels=method.DIM_FEEDFORWARD,
                dropout=method.DROPOUT,
                pre_norm=method.PRE_NORM,
            ),
            "enforce_input_proj": method.ENFORCE_INPUT_PROJ,
            "deep_supervision": method.DEEP_SUPERVISION,
        }

    def add_auxiliary_queries(self, count: int) -> None:
        """Add so many further queries for training; see `modeling/one_to_many.py`."""
        self.auxiliary_query_embed = for_training_only(lambda: nn.Embedding(count, self.hidden_dim))

    def forward(self, features: Tensor) -> QueryPredictions:
        """Predict from features [B, C, h, w]."""
        position = sine_position_encoding(features, self.hidden_dim)
        queries = [self.query_embed.weight]
        if self.training and self.auxiliary_query_embed is not None:
            queries.append(self.auxiliary_query_embed.weight)
        outputs = self.transformer.of_several(self.input_proj(features), position, queries)
        hidden = torch.stack(outputs if self.deep_supervision else outputs[-1:])
        class_logits = None if self.class_embed is None else self.class_embed(hidden)
        return QueryPredictions(class_logits, self.mask_embed(hidden))


class MLP(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        channels: numbers of channels of the input, of every hidden layer, and of the output.
    """

    def __init__(self, *channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers to the last dimension of `x`."""
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)
