"""Infer a backbone's config keys from the names and shapes of its weights."""

import math
import re
from collections.abc import Collection
from typing import Any

from torch import Tensor

Weights = dict[str, Tensor]

_BOTTLENECK_DEPTHS: dict[tuple[int, ...], int] = {
    (3, 4, 6, 3): 50,
    (3, 4, 23, 3): 101,
    (3, 8, 36, 3): 152,
}
_BASIC_DEPTHS: dict[tuple[int, ...], int] = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}
_STAGES = ["res2", "res3", "res4", "res5"]


def numbers(weights: Collection[str], pattern: str) -> list[int]:
    """Return, sorted, the distinct numbers that a pattern's first group matches in the names."""
    found = (re.match(pattern, name) for name in weights)
    return sorted({int(match[1]) for match in found if match})


def count(weights: Collection[str], pattern: str) -> int:
    """Return how many distinct numbers a pattern's first group matches."""
    return len(numbers(weights, pattern))


def backbone_keys(weights: Weights, prefix: str) -> dict[str, Any]:
    """Return the config keys of the backbone.

    Args:
        weights: tensors by our names.
        prefix: the prefix of the backbone's names: "backbone.", or "" for a backbone alone.
    """
    with_fpn = f"{prefix}fpn_lateral2.weight" in weights
    body = f"{prefix}bottom_up." if with_fpn else prefix
    if f"{body}stem.conv1.weight" in weights:
        return _resnet_keys(weights, body) | (_fpn_keys(weights, prefix) if with_fpn else {})
    if f"{body}features.0.weight" in weights:
        return {"MODEL.BACKBONE.NAME": "build_vgg_atrous_backbone"}
    if f"{body}model.layers.0.blocks.0.attn.qkv.weight" in weights:
        return _swin_keys(weights, body)
    if f"{body}model.conv1.6.weight" in weights:
        return _resnet_vd_keys(weights, body)
    if f"{body}model.stem_conv1.conv.weight" in weights:
        return _cspnet_keys(weights, body)
    if f"{body}model.stages_0.blocks.0.attn.q.weight" in weights:
        return _pvt_keys(weights, body)
    return {}


def _fpn_keys(weights: Weights, prefix: str) -> dict[str, Any]:
    levels = numbers(weights, re.escape(prefix) + r"fpn_lateral(\d)\.weight")
    return {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.FPN.IN_FEATURES": [f"res{level}" for level in levels],
        "MODEL.FPN.OUT_CHANNELS": len(weights[f"{prefix}fpn_lateral2.weight"]),
        "MODEL.FPN.NORM": "GN" if f"{prefix}fpn_lateral2.norm.weight" in weights else "",
    }


def _resnet_keys(weights: Weights, body: str) -> dict[str, Any]:
    blocks = tuple(count(weights, re.escape(f"{body}{stage}.") + r"(\d+)\.") for stage in _STAGES)
    bottleneck = f"{body}res2.0.conv3.weight" in weights
    depths = _BOTTLENECK_DEPTHS if bottleneck else _BASIC_DEPTHS
    last = "conv3" if bottleneck else "conv2"
    deep_stem = f"{body}stem.conv3.weight" in weights
    stem = weights[f"{body}stem.{'conv3' if deep_stem else 'conv1'}.weight"]
    keys: dict[str, Any] = {
        "MODEL.BACKBONE.NAME": "build_resnet_backbone",
        "MODEL.RESNETS.DEPTH": depths.get(blocks, 0),
        "MODEL.RESNETS.NORM": _batch_norm(weights, f"{body}res2.0.conv1.norm"),
        "MODEL.RESNETS.STEM_OUT_CHANNELS": len(stem),
        "MODEL.RESNETS.RES2_OUT_CHANNELS": len(weights[f"{body}res2.0.{last}.weight"]),
        "MODEL.RESNETS.OUT_FEATURES": _STAGES,
    }
    if bottleneck:
        inner = weights[f"{body}res2.0.conv2.weight"]
        groups = len(inner) // inner.shape[1]
        keys["MODEL.RESNETS.NUM_GROUPS"] = groups
        keys["MODEL.RESNETS.WIDTH_PER_GROUP"] = len(inner) // groups
        keys |= _deformable_keys(weights, body, _STAGES, "conv2_offset")
    if deep_stem:  # DeepLab's stem, published with a dilated last stage
        keys["MODEL.BACKBONE.NAME"] = "build_resnet_deeplab_backbone"
        keys["MODEL.RESNETS.STEM_TYPE"] = "deeplab"
        keys["MODEL.RESNETS.RES5_MULTI_GRID"] = [1, 2, 4]
    return keys


def _deformable_keys(weights: Weights, body: str, stages: list[str], offset: str) -> dict[str, Any]:
    offsets = [weights.get(f"{body}{stage}.0.{offset}.weight") for stage in stages]
    given = [one for one in offsets if one is not None]
    return {
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [one is not None for one in offsets],
        # Version 2 predicts a sampling weight beside the two coordinates of each of the nine
        # positions.
        "MODEL.RESNETS.DEFORM_MODULATED": bool(given) and len(given[0]) % 27 == 0,
    }


def _batch_norm(weights: Weights, norm: str) -> str:
    """Return the config's name of a batch norm; a frozen one has no counter of batches."""
    return "BN" if f"{norm}.num_batches_tracked" in weights else "FrozenBN"


def _resnet_vd_keys(weights: Weights, body: str) -> dict[str, Any]:
    layers = [f"model.layer{stage}" for stage in (1, 2, 3, 4)]
    blocks = tuple(count(weights, re.escape(f"{body}{layer}.") + r"(\d+)\.") for layer in layers)
    bottleneck = f"{body}model.layer1.0.conv3.weight" in weights
    return {
        "MODEL.BACKBONE.NAME": "build_resnet_vd_backbone",
        "MODEL.RESNETS.DEPTH": (_BOTTLENECK_DEPTHS if bottleneck else _BASIC_DEPTHS).get(blocks, 0),
        "MODEL.RESNETS.NORM": _batch_norm(weights, f"{body}model.bn1"),
        "MODEL.RESNETS.STEM_OUT_CHANNELS": len(weights[f"{body}model.conv1.6.weight"]),
        "MODEL.RESNETS.WIDTH_PER_GROUP": len(weights[f"{body}model.layer1.0.conv2.weight"]),
        "MODEL.RESNETS.OUT_FEATURES": _STAGES,
        **_deformable_keys(weights, body, layers, "conv2.offset"),
    }


def _cspnet_keys(weights: Weights, body: str) -> dict[str, Any]:
    crossed = f"{body}model.stages_0.conv_exp.conv.weight" in weights
    # Of a crossed stage, the last convolution; otherwise the last convolution of a block, whose
    # input is added.
    last = "conv_transition" if crossed else "blocks.0.conv2"
    outputs = [f"{body}model.stages_{stage}.{last}.conv.weight" for stage in range(5)]
    return {
        "MODEL.BACKBONE.NAME": "build_cspnet_backbone",
        "MODEL.CSPNET.NAME": "cspdarknet53" if crossed else "darknet53",
        "MODEL.CSPNET.NORM": _batch_norm(weights, f"{body}model.stem_conv1.bn"),
        "MODEL.CSPNET.CHANNELS": [
            len(weights[name]) for name in (f"{body}model.stem_conv1.conv.weight", *outputs)
        ],
        "MODEL.CSPNET.OUT_FEATURES": ["csp2", "csp3", "csp4"],
    }


def _pvt_keys(weights: Weights, body: str) -> dict[str, Any]:
    blocks = tuple(
        count(weights, re.escape(f"{body}model.stages_{stage}.blocks.") + r"(\d+)\.")
        for stage in range(4)
    )
    by_blocks: dict[tuple[int, ...], str] = {
        (2, 2, 2, 2): "b1",
        (3, 4, 6, 3): "b2",
        (3, 4, 18, 3): "b3",
        (3, 8, 27, 3): "b4",
        (3, 6, 40, 3): "b5",
    }
    name = by_blocks.get(blocks, "")
    if name == "b1" and len(weights[f"{body}model.patch_embed.proj.weight"]) == 32:
        name = "b0"
    reduction = weights[f"{body}model.stages_0.blocks.0.attn.sr.weight"]
    return {
        "MODEL.BACKBONE.NAME": "build_pyramid_vision_transformer",
        "MODEL.PVT.NAME": name,
        # Linear attention pools, and reduces with a 1x1 convolution.
        "MODEL.PVT.LINEAR": reduction.shape[-1] == 1,
        "MODEL.PVT.EMBED_DIMS": [
            len(weights[f"{body}model.stages_{stage}.norm.weight"]) for stage in range(4)
        ],
        "MODEL.PVT.OUT_FEATURES": ["p2", "p3", "p4"],
    }


def _swin_keys(weights: Weights, body: str) -> dict[str, Any]:
    tables = [
        weights[f"{body}model.layers.{stage}.blocks.0.attn.relative_position_bias_table"]
        for stage in range(4)
    ]
    embedding = weights[f"{body}model.patch_embed.proj.weight"]
    return {
        "MODEL.BACKBONE.NAME": "D2SwinTransformer",
        "MODEL.SWIN.EMBED_DIM": len(embedding),
        "MODEL.SWIN.PATCH_SIZE": embedding.shape[-1],
        "MODEL.SWIN.DEPTHS": [
            count(weights, re.escape(f"{body}model.layers.{stage}.blocks.") + r"(\d+)\.")
            for stage in range(4)
        ],
        "MODEL.SWIN.NUM_HEADS": [table.shape[1] for table in tables],
        # The table has one entry for every offset within a window: (2 size - 1)^2 in all.
        "MODEL.SWIN.WINDOW_SIZE": (math.isqrt(len(tables[0])) + 1) // 2,
    }
