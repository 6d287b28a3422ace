"""Rename the weights of Swin Transformers from the official code, mmdetection and HuggingFace.

Our names are timm's, which merges patches at the beginning of a stage, and not at the end of the
one before.
"""

import re
from collections.abc import Callable

from torch import Tensor

from ...checkpoint.resnet import CLASSIFIER
from ...checkpoint.rules import Rule
from ...checkpoint.source import Source

_RECOMPUTED = "computed from the window's size"


def official_swin(source: str, target: str) -> tuple[Rule, ...]:
    r"""Return the rules for the official names, which MaskFormer shares.

    Args:
        source: a regular expression of the prefix in the source, for instance `backbone\.`.
        target: our prefix: "backbone." or "".
    """
    return (
        Rule(source + r"(patch_embed\..+)", target + r"model.\1"),
        Rule(source + r".+\.(?:relative_position_index|attn_mask)", reason=_RECOMPUTED),
        Rule(source + r"layers\.(\d)\.downsample\.(.+)", _merging(target)),
        Rule(source + r"(layers\.\d\.blocks\..+)", target + r"model.\1"),
        Rule(source + r"norm(\d)\.(.+)", target + r"norm\1.\2"),
    )


def mmdet_swin(source: str, target: str) -> tuple[Rule, ...]:
    """Return the rules for mmdetection's names; the arguments are those of `official_swin`."""
    block = source + r"stages\.(\d)\.blocks\.(\d+)\."
    ours = target + r"model.layers.\1.blocks.\2."
    return (
        Rule(source + r"patch_embed\.projection\.(.+)", target + r"model.patch_embed.proj.\1"),
        Rule(source + r"patch_embed\.norm\.(.+)", target + r"model.patch_embed.norm.\1"),
        Rule(source + r".+\.relative_position_index", reason=_RECOMPUTED),
        Rule(block + r"attn\.w_msa\.(.+)", ours + r"attn.\3"),
        Rule(block + r"ffn\.layers\.0\.0\.(.+)", ours + r"mlp.fc1.\3"),
        Rule(block + r"ffn\.layers\.1\.(.+)", ours + r"mlp.fc2.\3"),
        Rule(block + r"(norm\d\..+)", ours + r"\3"),
        Rule(
            source + r"stages\.(\d)\.downsample\.(reduction\.weight|norm\.weight|norm\.bias)",
            _merging(target),
            transform=_pixels_first,
        ),
        Rule(source + r"norm(\d)\.(.+)", target + r"norm\1.\2"),
    )


def huggingface_swin(source: str, target: str) -> tuple[Rule, ...]:
    """Return the rules for HuggingFace's names; the arguments are those of `official_swin`."""
    block = source + r"encoder\.layers\.(\d)\.blocks\.(\d+)\."
    ours = target + r"model.layers.\1.blocks.\2."
    joined = tuple(
        Rule(block + rf"attention\.self\.{name}\.(.+)", ours + r"attn.qkv.\3", part, 3)
        for part, name in enumerate(("query", "key", "value"))
    )
    embeddings = source + r"embeddings\."
    return (
        Rule(
            embeddings + r"patch_embeddings\.projection\.(.+)",
            target + r"model.patch_embed.proj.\1",
        ),
        Rule(embeddings + r"norm\.(.+)", target + r"model.patch_embed.norm.\1"),
        Rule(source + r".+\.relative_position_index", reason=_RECOMPUTED),
        *joined,
        Rule(block + r"attention\.self\.(relative_position_bias_table)", ours + r"attn.\3"),
        Rule(block + r"attention\.output\.dense\.(.+)", ours + r"attn.proj.\3"),
        Rule(block + r"layernorm_before\.(.+)", ours + r"norm1.\3"),
        Rule(block + r"layernorm_after\.(.+)", ours + r"norm2.\3"),
        Rule(block + r"intermediate\.dense\.(.+)", ours + r"mlp.fc1.\3"),
        Rule(block + r"output\.dense\.(.+)", ours + r"mlp.fc2.\3"),
        Rule(source + r"encoder\.layers\.(\d)\.downsample\.(.+)", _merging(target)),
        Rule(source + r"layernorm\.(.+)", reason="the classifier's norm, which no method uses"),
    )


def _merging(target: str) -> Callable[[re.Match[str]], str]:
    def name(match: re.Match[str]) -> str:
        return f"{target}model.layers.{int(match[1]) + 1}.downsample.{match[2]}"

    return name


def _pixels_first(weight: Tensor) -> Tensor:
    """Reorder the input channels of a layer that merges 2x2 patches.

    mmdetection lists them channel by channel, and within a channel row by row; the official code
    lists them pixel by pixel, and these column by column.
    """
    by_channel = weight.unflatten(-1, (-1, 4))
    return by_channel[..., [0, 2, 1, 3]].transpose(-1, -2).flatten(-2)


# Norms of the features for dense tasks; ImageNet's classifier has none.
_OUTPUT_NORMS = r"norm\d\.(?:weight|bias)"

SOURCES = (
    Source(
        name="official-swin",
        title="the official Swin Transformer",
        recognised_by=(r"^layers\.0\.blocks\.0\.attn\.qkv\.", r"^layers\.0\.downsample\."),
        rules=(
            Rule(r"(?:norm|head)\..+", reason=CLASSIFIER),
            *official_swin("", ""),
        ),
        backbone_only=True,
        fresh=_OUTPUT_NORMS,
    ),
    Source(
        name="timm-swin",
        title="timm's Swin Transformer",
        recognised_by=(r"^layers\.0\.blocks\.0\.attn\.qkv\.", r"^layers\.3\.downsample\."),
        rules=(
            Rule(r"(?:norm|head)\..+", reason=CLASSIFIER),
            Rule(r".+\.(?:relative_position_index|attn_mask)", reason="computed"),
            Rule(r"((?:patch_embed|layers)\..+)", r"model.\1"),
        ),
        backbone_only=True,
        fresh=_OUTPUT_NORMS,
    ),
)
