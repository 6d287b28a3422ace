"""mmdetection 3.x: SOLO, Decoupled SOLO, SOLOv2, MaskFormer."""

import re

from ..rules import Rule
from ..source import IMAGENET_RGB, Source
from .official_solo import KEYS, fpn, mask_features, tower
from .resnet import torchvision_resnet
from .swin import mmdet_swin

_HEAD = r"mask_head\."


def _solo_rules(mask_convs: str) -> tuple[Rule, ...]:
    """All rules of the SOLO family; `mask_convs` is what the tower of that name is of ours."""
    return (
        *torchvision_resnet(r"backbone\.", "backbone.bottom_up."),
        *fpn(r"neck\."),
        *tower(_HEAD + "cls_convs", "head.category_branch.tower"),
        Rule(_HEAD + r"conv_cls\.(.+)", r"head.category_branch.logits.\1"),
        *tower(_HEAD + "mask_convs", mask_convs),
        Rule(_HEAD + r"conv_mask_list\.(\d)\.(.+)", r"head.mask_predictors.\1.\2"),
        *tower(_HEAD + "mask_convs_x", "head.towers.x"),
        *tower(_HEAD + "mask_convs_y", "head.towers.y"),
        Rule(_HEAD + r"conv_mask_list_([xy])\.(\d)\.(.+)", r"head.\1_predictors.\2.\3"),
        *tower(_HEAD + "kernel_convs", "head.kernel_tower"),
        Rule(_HEAD + r"conv_kernel\.(.+)", r"head.kernel_predictor.\1"),
        *mask_features(_HEAD + r"mask_feature_head\.", _HEAD + r"mask_feature_head\.conv_pred\."),
    )


# What this implementation does otherwise than the official one.
_SOLO_KEYS = {
    **KEYS,
    "MODEL.SOLOV2.MASK_COORD_LEVEL": "last",
    "MODEL.SOLOV2.LOSS.DICE_NORMALIZER": "cells",
}
_LIGHT = (r"^mask_head\.conv_mask_list_x\.", r"^mask_head\.mask_convs\.")

_LAYER = r"panoptic_head\.(pixel_decoder\.encoder|transformer_decoder)\.layers\.(\d+)\."


def _layer(match: re.Match[str]) -> str:
    """Returns our name of a transformer's layer."""
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
    # Of four levels, as all of its models have.
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
        name="mmdet3-solo",
        title="mmdetection 3.x: SOLO, Decoupled SOLO, SOLOv2",
        recognised_by=(r"^mask_head\.conv_cls\.", r"^mask_head\.(conv_mask_list|conv_kernel)"),
        not_by=_LIGHT,
        rules=_solo_rules("head.mask_tower"),
        keys=_SOLO_KEYS,
    ),
    Source(
        name="mmdet3-solo-light",
        title="mmdetection 3.x: Decoupled SOLO Light",
        recognised_by=_LIGHT,
        rules=_solo_rules("head.towers.xy"),
        keys=_SOLO_KEYS,
    ),
    Source(
        name="mmdet3-mask-former",
        title="mmdetection 3.x: MaskFormer",
        recognised_by=(r"^panoptic_head\.pixel_decoder\.", r"^panoptic_head\.cls_embed\."),
        rules=_MASK_FORMER_RULES,
        keys={
            **IMAGENET_RGB,
            "MODEL.BACKBONE.FREEZE_AT": 0,
            "MODEL.BACKBONE.NORM_EVAL": True,
            "MODEL.RESNETS.STRIDE_IN_1X1": False,
        },
    ),
)
