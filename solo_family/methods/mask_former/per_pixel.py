"""Define the per-pixel classifiers that MaskFormer is compared with (section 4, "Baseline models").

They are heads of detectron2's `SemanticSegmentor`. B images, K classes, E channels of the
embedding.
"""

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from fvcore.nn import weight_init
from torch import Tensor, nn

from ...data.formats.classes import num_classes
from .pixel_decoder import PixelDecoder, build_pixel_decoder
from .predictor import (
    TransformerPredictor,
    decode_pixels,
    transformer_in_channels,
    transformer_input,
)

# What detectron2's SemanticSegmentor expects: (None, losses) in training, else (logits, {}).
_Output = tuple[Tensor | None, dict[str, Tensor]]


class PerPixelBaselineHead(nn.Module):
    """Classify pixels by MaskFormer's pixel decoder and a 1x1 convolution of its embeddings.

    Args:
        pixel_decoder: see `build_pixel_decoder`.
        num_classes: K.
        ignore_value: the label of pixels that are not learnt.
        loss_weight: factor on the loss.
    """

    @configurable
    def __init__(
        self,
        *,
        pixel_decoder: PixelDecoder,
        num_classes: int,
        ignore_value: int = 255,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.pixel_decoder = pixel_decoder
        self.ignore_value = ignore_value
        self.loss_weight = loss_weight
        self.predictor: nn.Module = Conv2d(pixel_decoder.mask_dim, num_classes, kernel_size=1)
        weight_init.c2_msra_fill(self.predictor)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read the arguments from `cfg.MODEL.SEM_SEG_HEAD`."""
        return {
            "pixel_decoder": build_pixel_decoder(cfg, input_shape),
            "num_classes": num_classes(cfg, "MODEL.SEM_SEG_HEAD.NUM_CLASSES"),
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            "loss_weight": cfg.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT,
        }

    def forward(self, features: dict[str, Tensor], targets: Tensor | None = None) -> _Output:
        """Return losses in training, and logits otherwise.

        Args:
            features: the backbone's features by name.
            targets: int64 [B, H, W]; required in training.
        """
        mask_features = decode_pixels(self.pixel_decoder, features).mask_features
        return self.losses_or_logits(self.predictor(mask_features)[None], targets)

    def losses_or_logits(self, layer_logits: Tensor, targets: Tensor | None) -> _Output:
        """Upsample logits, and in training compare them with the targets.

        Args:
            layer_logits: [L, B, K, h, w]; the last layer is the prediction, the others are
                supervised, too.
            targets: int64 [B, H, W]; required in training.
        """
        if not self.training:
            return self._upsample(layer_logits[-1]), {}
        assert targets is not None
        losses = {}
        for layer, logits in enumerate(layer_logits):
            name = "loss_sem_seg" if layer == len(layer_logits) - 1 else f"loss_sem_seg_{layer}"
            losses[name] = self.loss_weight * self._loss(logits, targets)
        return None, losses

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            # Features reach beyond an image with a side that the stride does not divide.
            height, width = targets.shape[-2:]
            upsampled = self._upsample(logits.float())[..., :height, :width]
            loss = F.cross_entropy(
                upsampled, targets, ignore_index=self.ignore_value, reduction="sum"
            )
            # Not torch's mean, which is 0 / 0 where all pixels are ignored.
            return loss / (targets != self.ignore_value).sum().clamp(min=1)

    def _upsample(self, logits: Tensor) -> Tensor:
        stride = self.pixel_decoder.stride
        return F.interpolate(logits, scale_factor=stride, mode="bilinear", align_corners=False)


class PerPixelBaselinePlusHead(PerPixelBaselineHead):
    """Add MaskFormer's transformer to PerPixelBaseline: one query per class, no mask classes.

    The products of the k-th query's embedding and the pixels' embeddings are the logits of class k.

    Args:
        transformer_predictor: without classes, with K queries.
        transformer_in_feature: see `MaskFormerHead`.
        base: arguments of `PerPixelBaselineHead`.
    """

    @configurable
    def __init__(
        self,
        *,
        transformer_predictor: TransformerPredictor,
        transformer_in_feature: str,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.predictor = transformer_predictor
        self.transformer_in_feature = transformer_in_feature

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read the arguments from `cfg.MODEL.SEM_SEG_HEAD` and `cfg.MODEL.MASK_FORMER`."""
        base = super().from_config(cfg, input_shape)
        channels = transformer_in_channels(cfg, input_shape)
        return {
            **base,
            "transformer_predictor": TransformerPredictor(
                cfg, channels, None, num_queries=base["num_classes"]
            ),
            "transformer_in_feature": cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE,
        }

    def forward(self, features: dict[str, Tensor], targets: Tensor | None = None) -> _Output:
        """Return losses in training, and logits otherwise; see `PerPixelBaselineHead.forward`."""
        pixels = decode_pixels(self.pixel_decoder, features)
        queries = self.predictor(transformer_input(self.transformer_in_feature, features, pixels))
        logits = torch.einsum("lbke,behw->lbkhw", queries.mask_embeddings, pixels.mask_features)
        return self.losses_or_logits(logits, targets)
