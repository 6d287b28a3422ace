"""Read checkpoints of MaskFormer in HuggingFace's transformers, with a Swin or a ResNet."""

import re

from ...checkpoint.rules import Rule
from ...checkpoint.source import IMAGENET_RGB, Source
from .checkpoint_swin import huggingface_swin

_ENCODER = r"model\.pixel_level_module\.encoder\."
_DECODER = r"model\.pixel_level_module\.decoder\."
_TRANSFORMER = r"model\.transformer_module\."
_LAYER = _TRANSFORMER + r"decoder\.layers\.(\d+)\."
_OUR_LAYER = r"sem_seg_head.predictor.transformer.decoder.layers.\1."

# The two or three convolutions of a block; detectron2 counts them from 1.
_BLOCK = _ENCODER + r"(?:model\.)?encoder\.stages\.(\d)\.layers\.(\d+)\."


def _block(match: re.Match[str]) -> str:
    return f"backbone.res{int(match[1]) + 2}.{match[2]}."


_RESNET_RULES = (
    Rule(
        _ENCODER + r"(?:model\.)?embedder\.embedder\.convolution\.(.+)", r"backbone.stem.conv1.\1"
    ),
    Rule(
        _ENCODER + r"(?:model\.)?embedder\.embedder\.normalization\.(.+)",
        r"backbone.stem.conv1.norm.\1",
    ),
    Rule(_BLOCK + r"shortcut\.convolution\.(.+)", lambda m: f"{_block(m)}shortcut.{m[3]}"),
    Rule(_BLOCK + r"shortcut\.normalization\.(.+)", lambda m: f"{_block(m)}shortcut.norm.{m[3]}"),
    Rule(
        _BLOCK + r"layer\.(\d)\.convolution\.(.+)",
        lambda m: f"{_block(m)}conv{int(m[3]) + 1}.{m[4]}",
    ),
    Rule(
        _BLOCK + r"layer\.(\d)\.normalization\.(.+)",
        lambda m: f"{_block(m)}conv{int(m[3]) + 1}.norm.{m[4]}",
    ),
)


def _level(match: re.Match[str], ours: str) -> str:
    """Return our name of a level of the pixel decoder, whose first layer is that of stride 16."""
    part = {"0": "", "1": "norm."}[match[2]]
    return f"sem_seg_head.pixel_decoder.{ours}_{3 - int(match[1])}.{part}{match[3]}"


def _attention(theirs: str, ours: str) -> tuple[Rule, ...]:
    joined = tuple(
        Rule(
            _LAYER + rf"{theirs}\.{name}_proj\.(weight|bias)",
            _OUR_LAYER + rf"{ours}.in_proj_\2",
            part,
            3,
        )
        for part, name in enumerate("qkv")
    )
    return (
        *joined,
        Rule(_LAYER + rf"{theirs}\.(?:o|out)_proj\.(.+)", _OUR_LAYER + rf"{ours}.out_proj.\2"),
    )


_HEAD_RULES = (
    Rule(_DECODER + r"fpn\.stem\.0\.(.+)", r"sem_seg_head.pixel_decoder.layer_4.\1"),
    Rule(_DECODER + r"fpn\.stem\.1\.(.+)", r"sem_seg_head.pixel_decoder.layer_4.norm.\1"),
    Rule(_DECODER + r"fpn\.layers\.(\d)\.proj\.(\d)\.(.+)", lambda m: _level(m, "adapter")),
    Rule(_DECODER + r"fpn\.layers\.(\d)\.block\.(\d)\.(.+)", lambda m: _level(m, "layer")),
    Rule(_DECODER + r"mask_projection\.(.+)", r"sem_seg_head.pixel_decoder.mask_features.\1"),
    Rule(_TRANSFORMER + r"queries_embedder\.(.+)", r"sem_seg_head.predictor.query_embed.\1"),
    Rule(_TRANSFORMER + r"input_projection\.(.+)", r"sem_seg_head.predictor.input_proj.\1"),
    *_attention("self_attn", "self_attn"),
    *_attention("encoder_attn", "multihead_attn"),
    Rule(_LAYER + r"self_attn_layer_norm\.(.+)", _OUR_LAYER + r"norm1.\2"),
    Rule(_LAYER + r"encoder_attn_layer_norm\.(.+)", _OUR_LAYER + r"norm2.\2"),
    Rule(_LAYER + r"final_layer_norm\.(.+)", _OUR_LAYER + r"norm3.\2"),
    # `mlp.` was added in transformers 5.
    Rule(_LAYER + r"(?:mlp\.)?fc([12])\.(.+)", _OUR_LAYER + r"linear\2.\3"),
    Rule(
        _TRANSFORMER + r"decoder\.layernorm\.(.+)",
        r"sem_seg_head.predictor.transformer.decoder.norm.\1",
    ),
    Rule(r"class_predictor\.(.+)", r"sem_seg_head.predictor.class_embed.\1"),
    Rule(r"mask_embedder\.(\d)\.0\.(.+)", r"sem_seg_head.predictor.mask_embed.layers.\1.\2"),
    Rule(r"criterion\.empty_weight", reason="a constant of the loss"),
)


def _norm(match: re.Match[str]) -> str:
    """Return our name of a stage's norm: `stage1` in one version is 0 in the other and in ours."""
    number = int(match[2]) - 1 if match[1] else int(match[2])
    return f"backbone.norm{number}.{match[3]}"


SOURCES = (
    Source(
        name="huggingface",
        title="HuggingFace's MaskFormer",
        recognised_by=(r"^model\.pixel_level_module\.", r"^model\.transformer_module\."),
        rules=(
            *_HEAD_RULES,
            *_RESNET_RULES,
            Rule(_ENCODER + r"hidden_states_norms\.(stage)?(\d)\.(.+)", _norm),
            *huggingface_swin(_ENCODER + r"(?:model\.)?", "backbone."),
        ),
        keys={
            **IMAGENET_RGB,
            "MODEL.BACKBONE.FREEZE_AT": 0,
            "MODEL.RESNETS.STRIDE_IN_1X1": False,
        },
    ),
)
