"""Read checkpoints of the official SparseInst, with all of its backbones.

The code is that of github.com/hustvl/SparseInst.

"""

import re

from ...checkpoint.rules import Rule
from ...checkpoint.source import IMAGENET_RGB, Source

_INSTANCES = r"decoder\.inst_branch\."
_MASKS = r"decoder\.mask_branch\."


def _stage(match: re.Match[str]) -> str:
    """Return our name of a part of the official PVTv2, whose stages count from 1, timm's from 0."""
    return f"backbone.model.stages_{int(match[1]) - 1}."


_BACKBONE_RULES = (
    # timm's ResNet-vd, with the offsets of deformable convolutions beside its names.
    Rule(r"backbone\.(layer\d\.\d+)\.conv2_offset\.(.+)", r"backbone.model.\1.conv2.offset.\2"),
    Rule(r"backbone\.((?:conv1|bn1|layer\d)\..+)", r"backbone.model.\1"),
    # timm's CSPNet and DarkNet, which the official code copies.
    Rule(r"backbone\.stem\.(conv\d\.(?:conv|bn)\..+)", r"backbone.model.stem_\1"),
    Rule(r"backbone\.stages\.(\d)\.(.+)", r"backbone.model.stages_\1.\2"),
    # detectron2's ResNet.
    Rule(r"(backbone\.(?:stem\.conv\d|res\d)\..+)", r"\1"),
    # PVTv2.
    Rule(r"backbone\.patch_embed1\.(.+)", r"backbone.model.patch_embed.\1"),
    Rule(r"backbone\.patch_embed(\d)\.(.+)", lambda m: f"{_stage(m)}downsample.{m[2]}"),
    Rule(
        r"backbone\.block(\d)\.(\d+)\.mlp\.dwconv\.dwconv\.(.+)",
        lambda m: f"{_stage(m)}blocks.{m[2]}.mlp.dwconv.{m[3]}",
    ),
    Rule(r"backbone\.block(\d)\.(.+)", lambda m: f"{_stage(m)}blocks.{m[2]}"),
    Rule(r"backbone\.norm(\d)\.(.+)", lambda m: f"{_stage(m)}norm.{m[2]}"),
)

SOURCES = (
    Source(
        name="sparse-inst",
        title="the official SparseInst code",
        recognised_by=(r"^decoder\.inst_branch\.", r"^encoder\.fpn_laterals\."),
        rules=(
            *_BACKBONE_RULES,
            Rule(r"(encoder\.(?:fpn_laterals|fpn_outputs|ppm|fusion)\..+)", r"\1"),
            Rule(_INSTANCES + r"inst_convs\.(.+)", r"decoder.instance_branch.convs.\1"),
            Rule(_INSTANCES + r"(iam_conv|fc)\.(.+)", r"decoder.instance_branch.\1.\2"),
            Rule(
                _INSTANCES + r"cls_score\.(.+)",
                r"decoder.instance_branch.predictor.class_logits.\1",
            ),
            Rule(
                _INSTANCES + r"(mask_kernel|objectness)\.(.+)",
                r"decoder.instance_branch.predictor.\1.\2",
            ),
            Rule(
                _INSTANCES + "softmax_bias",
                reason="added to all logits of a softmax, which it does not change",
            ),
            Rule(_MASKS + r"mask_convs\.(.+)", r"decoder.mask_branch.convs.\1"),
            Rule(_MASKS + r"projection\.(.+)", r"decoder.mask_branch.projection.\1"),
            Rule(r"pixel_(?:mean|std)", reason="MODEL.PIXEL_MEAN and PIXEL_STD have them"),
        ),
        keys={
            **IMAGENET_RGB,
            "MODEL.BACKBONE.FREEZE_AT": 0,
            "MODEL.RESNETS.STRIDE_IN_1X1": False,
        },
    ),
)
