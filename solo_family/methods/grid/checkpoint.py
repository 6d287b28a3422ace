"""Read checkpoints of SOLO, Decoupled SOLO and SOLOv2: the official code's, mmdetection 3.x's."""

from ...checkpoint.resnet import torchvision_resnet
from ...checkpoint.rules import Rule
from ...checkpoint.source import IMAGENET_RGB, Source


def _fpn(source: str) -> tuple[Rule, ...]:
    """Return the rules of mmdetection's FPN; its first convolution is that of stride 4, fpn_*2."""
    names = {"lateral": "lateral", "fpn": "output"}
    return (
        Rule(
            source + r"(lateral|fpn)_convs\.(\d)\.conv\.(.+)",
            lambda m: f"backbone.fpn_{names[m[1]]}{int(m[2]) + 2}.{m[3]}",
        ),
    )


def _tower(source: str, target: str) -> tuple[Rule, ...]:
    """Return the rules of a tower: convolutions, deformable or not, and their normalisations."""
    return (
        Rule(source + r"\.(\d+)\.conv\.conv_offset\.(.+)", target + r".\1.conv.offset.\2"),
        Rule(source + r"\.(\d+)\.conv\.(.+)", target + r".\1.conv.\2"),
        Rule(source + r"\.(\d+)\.(?:gn|bn|norm)\.(.+)", target + r".\1.norm.\2"),
    )


def _mask_features(source: str, projection: str) -> tuple[Rule, ...]:
    """Return the rules of the mask feature branch: conv0, conv1, ... per level, a projection."""
    levels = source + r"convs_all_levels\.(\d)\.conv(\d)\."
    ours = r"mask_branch.levels.\1.\2."
    return (
        Rule(levels + r"conv\.conv_offset\.(.+)", ours + r"conv.offset.\3"),
        Rule(levels + r"conv\.(.+)", ours + r"conv.\3"),
        Rule(levels + r"gn\.(.+)", ours + r"norm.\3"),
        Rule(projection + r"conv\.conv_offset\.(.+)", r"mask_branch.projection.conv.offset.\1"),
        Rule(projection + r"conv\.(.+)", r"mask_branch.projection.conv.\1"),
        Rule(projection + r"gn\.(.+)", r"mask_branch.projection.norm.\1"),
    )


_HEAD = r"bbox_head\."  # of the official code


def _rules(ins_convs: str) -> tuple[Rule, ...]:
    """Return all rules of the official code.

    Args:
        ins_convs: our name of the tower `ins_convs`: SOLO's mask tower, or the only tower of
            Decoupled SOLO Light.
    """
    return (
        *torchvision_resnet(r"backbone\.", "backbone.bottom_up."),
        *_fpn(r"neck\."),
        *_tower(_HEAD + "cate_convs", "head.category_branch.tower"),
        Rule(_HEAD + r"d?solo_cate\.(.+)", r"head.category_branch.logits.\1"),
        *_tower(_HEAD + "ins_convs", ins_convs),
        Rule(_HEAD + r"solo_ins_list\.(\d)\.(.+)", r"head.mask_predictors.\1.\2"),
        # Decoupled SOLO.
        *_tower(_HEAD + "ins_convs_x", "head.towers.x"),
        *_tower(_HEAD + "ins_convs_y", "head.towers.y"),
        Rule(_HEAD + r"dsolo_ins_list_([xy])\.(\d)\.(.+)", r"head.\1_predictors.\2.\3"),
        # SOLOv2.
        *_tower(_HEAD + "kernel_convs", "head.kernel_tower"),
        Rule(_HEAD + r"solo_kernel\.(.+)", r"head.kernel_predictor.\1"),
        *_mask_features(r"mask_feat_head\.", r"mask_feat_head\.conv_pred\.0\."),
    )


_KEYS = {
    **IMAGENET_RGB,
    "INPUT.RESIZE": "cv2",
    "MODEL.BACKBONE.NORM_EVAL": True,
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
}
_TITLE = "the official SOLO code (mmdetection 1.x)"

_LIGHT = (r"^bbox_head\.dsolo_cate\.", r"^bbox_head\.ins_convs\.")

_MMDET_HEAD = r"mask_head\."


def _mmdet_rules(mask_convs: str) -> tuple[Rule, ...]:
    """Return all rules of mmdetection; `mask_convs` is our name of the tower of that name."""
    return (
        *torchvision_resnet(r"backbone\.", "backbone.bottom_up."),
        *_fpn(r"neck\."),
        *_tower(_MMDET_HEAD + "cls_convs", "head.category_branch.tower"),
        Rule(_MMDET_HEAD + r"conv_cls\.(.+)", r"head.category_branch.logits.\1"),
        *_tower(_MMDET_HEAD + "mask_convs", mask_convs),
        Rule(_MMDET_HEAD + r"conv_mask_list\.(\d)\.(.+)", r"head.mask_predictors.\1.\2"),
        *_tower(_MMDET_HEAD + "mask_convs_x", "head.towers.x"),
        *_tower(_MMDET_HEAD + "mask_convs_y", "head.towers.y"),
        Rule(_MMDET_HEAD + r"conv_mask_list_([xy])\.(\d)\.(.+)", r"head.\1_predictors.\2.\3"),
        *_tower(_MMDET_HEAD + "kernel_convs", "head.kernel_tower"),
        Rule(_MMDET_HEAD + r"conv_kernel\.(.+)", r"head.kernel_predictor.\1"),
        *_mask_features(
            _MMDET_HEAD + r"mask_feature_head\.", _MMDET_HEAD + r"mask_feature_head\.conv_pred\."
        ),
    )


# The keys with which a model computes what mmdetection's does, where the official code differs.
_MMDET_KEYS = {
    **_KEYS,
    "MODEL.SOLOV2.MASK_COORD_LEVEL": "last",
    "MODEL.SOLOV2.LOSS.DICE_NORMALIZER": "cells",
}
_MMDET_LIGHT = (r"^mask_head\.conv_mask_list_x\.", r"^mask_head\.mask_convs\.")

SOURCES = (
    Source(
        name="official-solo",
        title=f"{_TITLE}: SOLO, Decoupled SOLO, SOLOv2",
        recognised_by=(r"^bbox_head\.d?solo_cate\.",),
        not_by=_LIGHT,
        rules=_rules("head.mask_tower"),
        keys=_KEYS,
    ),
    Source(
        name="official-solo-light",
        title=f"{_TITLE}: Decoupled SOLO Light",
        recognised_by=_LIGHT,
        rules=_rules("head.towers.xy"),
        keys=_KEYS,
    ),
    Source(
        name="mmdet3-solo",
        title="mmdetection 3.x: SOLO, Decoupled SOLO, SOLOv2",
        recognised_by=(r"^mask_head\.conv_cls\.", r"^mask_head\.(conv_mask_list|conv_kernel)"),
        not_by=_MMDET_LIGHT,
        rules=_mmdet_rules("head.mask_tower"),
        keys=_MMDET_KEYS,
    ),
    Source(
        name="mmdet3-solo-light",
        title="mmdetection 3.x: Decoupled SOLO Light",
        recognised_by=_MMDET_LIGHT,
        rules=_mmdet_rules("head.towers.xy"),
        keys=_MMDET_KEYS,
    ),
)
