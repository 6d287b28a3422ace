"""Infer from weights the config keys of their model.

The keys are read from our names and the shapes of the tensors, so that one function serves every
source. What leaves no trace in the weights (image sizes, thresholds, the grids of SOLOv2, the heads
of an attention) keeps its default, which is the published value, unless the source's own config
sets it.
"""

import math
import re
from typing import Any

from .implied_backbone import Weights, backbone_keys, count, numbers

_SOLO = "MODEL.SOLO"
_SOLOV2 = "MODEL.SOLOV2"
_SPARSE_INST = "MODEL.SPARSE_INST"
_SEM_SEG_HEAD = "MODEL.SEM_SEG_HEAD"
_MASK_FORMER = "MODEL.MASK_FORMER"


def implied_keys(weights: Weights, *, backbone_only: bool = False) -> dict[str, Any]:
    """Return the config keys of the model that these weights belong to.

    Args:
        weights: tensors by our names.
        backbone_only: the weights are those of a backbone, without a prefix.
    """
    if backbone_only:
        return backbone_keys(weights, "")
    keys = backbone_keys(weights, "backbone.")
    if "head.kernel_predictor.weight" in weights:
        return keys | _solov2_keys(weights)
    if "head.category_branch.logits.weight" in weights:
        return keys | _solo_keys(weights)
    if "encoder.fusion.weight" in weights:
        return keys | _sparse_inst_keys(weights)
    if "sem_seg_head.pixel_decoder.mask_features.weight" in weights:
        return keys | _mask_former_keys(weights)
    return keys


def _tower_keys(weights: Weights, method: str, tower: str) -> dict[str, Any]:
    """Return the keys that SOLO and SOLOv2 share."""
    logits = weights["head.category_branch.logits.weight"]
    convs = numbers(weights, re.escape(tower) + r"\.(\d+)\.conv\.weight")
    offsets = numbers(weights, re.escape(tower) + r"\.(\d+)\.conv\.offset\.weight")
    normalised = f"{tower}.0.norm.weight" in weights
    running = f"{tower}.0.norm.running_mean" in weights
    keys: dict[str, Any] = {
        f"{method}.NUM_CLASSES": len(logits),
        f"{method}.INSTANCE_CHANNELS": logits.shape[1],
        f"{method}.NUM_INSTANCE_CONVS": len(convs),
        f"{method}.NORM": ("BN" if running else "GN") if normalised else "",
        f"{method}.USE_DCN_IN_INSTANCE": bool(offsets),
    }
    if offsets:
        weight = weights[f"{tower}.{offsets[0]}.conv.offset.weight"]
        keys[f"{method}.TYPE_DCN"] = "DCNv2" if len(weight) % 27 == 0 else "DCN"
        keys[f"{method}.DCN_CONVS"] = "all" if offsets == convs else "last"
    return keys


def _solo_keys(weights: Weights) -> dict[str, Any]:
    decoupled = "head.x_predictors.0.weight" in weights
    light = "head.towers.xy.0.conv.weight" in weights
    tower = "head.towers.xy" if light else "head.towers.x" if decoupled else "head.mask_tower"
    side = {True: "head.x_predictors", False: "head.mask_predictors"}[decoupled]
    outputs = [
        len(weights[f"{side}.{level}.weight"])
        for level in numbers(weights, re.escape(side) + r"\.(\d+)\.weight")
    ]
    channels = weights["head.category_branch.tower.0.conv.weight"].shape[1]
    coordinates = weights[f"{tower}.0.conv.weight"].shape[1] - channels
    return {
        "MODEL.META_ARCHITECTURE": "DecoupledSOLO" if decoupled else "SOLO",
        f"{_SOLO}.HEAD_NAME": "DecoupledSOLOLightHead" if light else "",
        f"{_SOLO}.NUM_GRIDS": outputs if decoupled else [math.isqrt(n) for n in outputs],
        f"{_SOLO}.USE_COORD_CONV": coordinates > 0,
        **_tower_keys(weights, _SOLO, tower),
    }


def _solov2_keys(weights: Weights) -> dict[str, Any]:
    tower = "head.kernel_tower"
    channels = weights["head.category_branch.tower.0.conv.weight"].shape[1]
    coordinates = weights[f"{tower}.0.conv.weight"].shape[1] - channels
    levels = count(weights, r"mask_branch\.levels\.(\d)\.")
    projection = "mask_branch.projection.conv"
    return {
        "MODEL.META_ARCHITECTURE": "SOLOv2",
        **_tower_keys(weights, _SOLOV2, tower),
        f"{_SOLOV2}.USE_COORD_CONV": coordinates > 0,
        f"{_SOLOV2}.NUM_KERNELS": len(weights["head.kernel_predictor.weight"]),
        f"{_SOLOV2}.MASK_IN_FEATURES": [f"p{level + 2}" for level in range(levels)],
        f"{_SOLOV2}.MASK_CHANNELS": len(weights["mask_branch.levels.0.0.conv.weight"]),
        f"{_SOLOV2}.NUM_MASKS": len(weights[f"{projection}.weight"]),
        f"{_SOLOV2}.USE_DCN_IN_MASK": f"{projection}.offset.weight" in weights,
    }


def _sparse_inst_keys(weights: Weights) -> dict[str, Any]:
    branch = "decoder.instance_branch"
    maps = weights[f"{branch}.iam_conv.weight"]
    channels = len(weights[f"{branch}.convs.0.weight"])
    groups = channels // maps.shape[1]
    features = _sparse_inst_features(weights)
    keys = {
        "MODEL.META_ARCHITECTURE": "SparseInst",
        f"{_SPARSE_INST}.ENCODER.NAME": "InstanceContextEncoder",
        f"{_SPARSE_INST}.ENCODER.NUM_CHANNELS": len(weights["encoder.fusion.weight"]),
        f"{_SPARSE_INST}.ENCODER.IN_FEATURES": features,
    }
    decoder = {
        "NAME": "GroupIAMDecoder" if f"{branch}.fc.weight" in weights else "BaseIAMDecoder",
        "GROUPS": groups,
        "NUM_MASKS": len(maps) // groups,
        "IAM_KERNEL_SIZE": maps.shape[-1],
        "NUM_CLASSES": len(weights[f"{branch}.predictor.class_logits.weight"]),
        "KERNEL_DIM": len(weights[f"{branch}.predictor.mask_kernel.weight"]),
        "INST.DIM": channels,
        "INST.CONVS": count(weights, re.escape(branch) + r"\.convs\.(\d+)\.weight"),
        "MASK.DIM": len(weights["decoder.mask_branch.convs.0.weight"]),
        "MASK.CONVS": count(weights, r"decoder\.mask_branch\.convs\.(\d+)\.weight"),
    }
    keys |= {f"{_SPARSE_INST}.DECODER.{key}": value for key, value in decoder.items()}
    if features[0].startswith("res"):
        keys["MODEL.RESNETS.OUT_FEATURES"] = features
    return keys


def _sparse_inst_features(weights: Weights) -> list[str]:
    """Return the names of the encoder's input features: the last ones of the backbone."""
    levels = count(weights, r"encoder\.fpn_laterals\.(\d)\.")
    stages = {"csp": "backbone.model.stem_conv1.", "p": "backbone.model.patch_embed."}
    last = {"csp": 4, "p": 4, "res": 5}
    prefix = next(
        (name for name, part in stages.items() if any(key.startswith(part) for key in weights)),
        "res",
    )
    return [f"{prefix}{last[prefix] + 1 - levels + level}" for level in range(levels)]


def _mask_former_keys(weights: Weights) -> dict[str, Any]:
    decoder, predictor = "sem_seg_head.pixel_decoder", "sem_seg_head.predictor"
    levels = count(weights, re.escape(decoder) + r"\.layer_(\d)\.weight")
    mask_features = weights[f"{decoder}.mask_features.weight"]
    encoder_layers = count(weights, re.escape(decoder) + r"\.transformer\.encoder\.layers\.(\d+)\.")
    keys: dict[str, Any] = {
        f"{_SEM_SEG_HEAD}.IN_FEATURES": [f"res{6 - levels + level}" for level in range(levels)],
        f"{_SEM_SEG_HEAD}.CONVS_DIM": mask_features.shape[1],
        f"{_SEM_SEG_HEAD}.MASK_DIM": len(mask_features),
        f"{_SEM_SEG_HEAD}.NORM": "GN" if f"{decoder}.layer_1.norm.weight" in weights else "",
        f"{_SEM_SEG_HEAD}.PIXEL_DECODER_NAME": (
            "TransformerEncoderPixelDecoder" if encoder_layers else "BasePixelDecoder"
        ),
        f"{_SEM_SEG_HEAD}.TRANSFORMER_ENC_LAYERS": encoder_layers,
    }
    if f"{predictor}.query_embed.weight" not in weights:
        classes = len(weights[f"{predictor}.weight"])
        return keys | _per_pixel_keys("PerPixelBaselineHead", classes)
    keys |= _transformer_keys(weights, predictor, encoder_layers)
    if f"{predictor}.class_embed.weight" not in weights:
        classes = len(weights[f"{predictor}.query_embed.weight"])
        return keys | _per_pixel_keys("PerPixelBaselinePlusHead", classes)
    return keys | {
        "MODEL.META_ARCHITECTURE": "MaskFormer",
        f"{_SEM_SEG_HEAD}.NAME": "MaskFormerHead",
        f"{_SEM_SEG_HEAD}.NUM_CLASSES": len(weights[f"{predictor}.class_embed.weight"]) - 1,
    }


def _per_pixel_keys(head: str, classes: int) -> dict[str, Any]:
    return {
        "MODEL.META_ARCHITECTURE": "SemanticSegmentor",
        f"{_SEM_SEG_HEAD}.NAME": head,
        f"{_SEM_SEG_HEAD}.NUM_CLASSES": classes,
    }


def _transformer_keys(weights: Weights, predictor: str, pixel_layers: int) -> dict[str, Any]:
    queries = weights[f"{predictor}.query_embed.weight"]
    projection = weights.get(f"{predictor}.input_proj.weight")
    layers = {
        part: count(weights, re.escape(predictor) + rf"\.transformer\.{part}\.layers\.(\d+)\.")
        for part in ("encoder", "decoder")
    }
    return {
        f"{_MASK_FORMER}.NUM_OBJECT_QUERIES": len(queries),
        f"{_MASK_FORMER}.HIDDEN_DIM": queries.shape[1],
        f"{_MASK_FORMER}.ENC_LAYERS": layers["encoder"],
        f"{_MASK_FORMER}.DEC_LAYERS": layers["decoder"],
        f"{_MASK_FORMER}.DIM_FEEDFORWARD": len(
            weights[f"{predictor}.transformer.decoder.layers.0.linear1.weight"]
        ),
        f"{_MASK_FORMER}.TRANSFORMER_IN_FEATURE": "transformer_encoder" if pixel_layers else "res5",
        f"{_MASK_FORMER}.ENFORCE_INPUT_PROJ": (
            projection is not None and projection.shape[1] == queries.shape[1]
        ),
    }
