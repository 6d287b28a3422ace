"""Read checkpoints of MaskFormer in mmdetection 3.x."""

import re

from ...checkpoint.resnet import torchvision_resnet
from ...checkpoint.rules import Rule
from ...checkpoint.source import IMAGENET_RGB, Source
from .checkpoint_swin import mmdet_swin

_LAYER = r"panoptic_head\.(pixel_decoder\.encoder|transformer_decoder)\.layers\.(\d+)\."


def _layer(match: re.Match[str]) -> str:
    """Return our name of a transformer's layer."""
    if match[1] == "transformer_decoder":
        return f"sem_seg_head.predictor.transformer.decoder.layers.{match[2]}."
    return f"sem_seg_head.pixel_decoder.transformer.encoder.layers.{match[2]}."


def _next(number: str) -> int:
    return int(number) + 1


_DECODER = r"panoptic_head\.pixel_decoder\."
_CONV = r"\.(\d)\.(conv\.weight|conv\.bias|gn\.weight|gn\.bias)"


def _pixel_decoder(ours: str, number: str, what: str) -> str:
    what = what.replace("conv.", "").replace("gn.", "norm.")
    return f"sem_seg_head.pixel_decoder.{ours}_{number}.{what}"


_MASK_FORMER_RULES = (
    *torchvision_resnet(r"backbone\.", "backbone."),
    *mmdet_swin(r"backbone\.", "backbone."),
    Rule(
        _DECODER + "lateral_convs" + _CONV,
        lambda match: _pixel_decoder("adapter", f"{_next(match[1])}", match[2]),
    ),
    Rule(
        _DECODER + "output_convs" + _CONV,
        lambda match: _pixel_decoder("layer", f"{_next(match[1])}", match[2]),
    ),
    # There are four levels, as in all of its models.
    Rule(
        _DECODER + r"(?:encoder_out_proj|last_feat_conv)\.(.+)",
        lambda match: _pixel_decoder("layer", "4", match[1]),
    ),
    Rule(_DECODER + r"encoder_in_proj\.(.+)", r"sem_seg_head.pixel_decoder.input_proj.\1"),
    Rule(_DECODER + r"mask_feature\.(.+)", r"sem_seg_head.pixel_decoder.mask_features.\1"),
    Rule(_LAYER + r"self_attn\.attn\.(.+)", lambda m: f"{_layer(m)}self_attn.{m[3]}"),
    Rule(_LAYER + r"cross_attn\.attn\.(.+)", lambda m: f"{_layer(m)}multihead_attn.{m[3]}"),
    Rule(_LAYER + r"ffn\.layers\.0\.0\.(.+)", lambda m: f"{_layer(m)}linear1.{m[3]}"),
    Rule(_LAYER + r"ffn\.layers\.1\.(.+)", lambda m: f"{_layer(m)}linear2.{m[3]}"),
    Rule(_LAYER + r"norms\.(\d)\.(.+)", lambda m: f"{_layer(m)}norm{_next(m[3])}.{m[4]}"),
    Rule(
        r"panoptic_head\.transformer_decoder\.post_norm\.(.+)",
        r"sem_seg_head.predictor.transformer.decoder.norm.\1",
    ),
    Rule(r"panoptic_head\.query_embed\.(.+)", r"sem_seg_head.predictor.query_embed.\1"),
    Rule(r"panoptic_head\.decoder_input_proj\.(.+)", r"sem_seg_head.predictor.input_proj.\1"),
    Rule(r"panoptic_head\.cls_embed\.(.+)", r"sem_seg_head.predictor.class_embed.\1"),
    # Layers 0, 2 and 4 of a sequence with ReLUs between them.
    Rule(
        r"panoptic_head\.mask_embed\.(\d)\.(.+)",
        lambda m: f"sem_seg_head.predictor.mask_embed.layers.{int(m[1]) // 2}.{m[2]}",
    ),
    Rule(r"panoptic_head\.loss_cls\.class_weight", reason="a constant of the loss"),
)

SOURCES = (
    Source(
        name="mmdet3-mask-former",
        title="mmdetection 3.x: MaskFormer",
        recognised_by=(r"^panoptic_head\.pixel_decoder\.", r"^panoptic_head\.cls_embed\."),
        rules=_MASK_FORMER_RULES,
        keys={
            **IMAGENET_RGB,
            "INPUT.RESIZE": "cv2",
            "MODEL.BACKBONE.FREEZE_AT": 0,
            "MODEL.BACKBONE.NORM_EVAL": True,
            "MODEL.RESNETS.STRIDE_IN_1X1": False,
        },
    ),
)
