"""The official SOLO, Decoupled SOLO and SOLOv2 (github.com/WXinlong/SOLO, mmdetection 1.x)."""

from ..rules import Rule
from ..source import IMAGENET_RGB, Source
from .resnet import torchvision_resnet


def fpn(source: str) -> tuple[Rule, ...]:
    """Rules of mmdetection's FPN: the first of its convolutions is that of stride 4, fpn_*2."""
    names = {"lateral": "lateral", "fpn": "output"}
    return (
        Rule(
            source + r"(lateral|fpn)_convs\.(\d)\.conv\.(.+)",
            lambda m: f"backbone.fpn_{names[m[1]]}{int(m[2]) + 2}.{m[3]}",
        ),
    )


def tower(source: str, target: str) -> tuple[Rule, ...]:
    """Rules of a sequence of convolutions, deformable or not, and their normalisations."""
    return (
        Rule(source + r"\.(\d+)\.conv\.conv_offset\.(.+)", target + r".\1.conv.offset.\2"),
        Rule(source + r"\.(\d+)\.conv\.(.+)", target + r".\1.conv.\2"),
        Rule(source + r"\.(\d+)\.(?:gn|bn|norm)\.(.+)", target + r".\1.norm.\2"),
    )


def mask_features(source: str, projection: str) -> tuple[Rule, ...]:
    """Rules of the mask feature branch: conv0, conv1, ... of every level; the projection's name."""
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


_HEAD = r"bbox_head\."


def _rules(ins_convs: str) -> tuple[Rule, ...]:
    """All rules; `ins_convs` is SOLO's mask tower, and the one tower of Decoupled SOLO Light."""
    return (
        *torchvision_resnet(r"backbone\.", "backbone.bottom_up."),
        *fpn(r"neck\."),
        *tower(_HEAD + "cate_convs", "head.category_branch.tower"),
        Rule(_HEAD + r"d?solo_cate\.(.+)", r"head.category_branch.logits.\1"),
        *tower(_HEAD + "ins_convs", ins_convs),
        Rule(_HEAD + r"solo_ins_list\.(\d)\.(.+)", r"head.mask_predictors.\1.\2"),
        # Decoupled SOLO.
        *tower(_HEAD + "ins_convs_x", "head.towers.x"),
        *tower(_HEAD + "ins_convs_y", "head.towers.y"),
        Rule(_HEAD + r"dsolo_ins_list_([xy])\.(\d)\.(.+)", r"head.\1_predictors.\2.\3"),
        # SOLOv2.
        *tower(_HEAD + "kernel_convs", "head.kernel_tower"),
        Rule(_HEAD + r"solo_kernel\.(.+)", r"head.kernel_predictor.\1"),
        *mask_features(r"mask_feat_head\.", r"mask_feat_head\.conv_pred\.0\."),
    )


KEYS = {
    **IMAGENET_RGB,
    "MODEL.BACKBONE.NORM_EVAL": True,
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
}
_TITLE = "the official SOLO code (mmdetection 1.x)"

_LIGHT = (r"^bbox_head\.dsolo_cate\.", r"^bbox_head\.ins_convs\.")

SOURCES = (
    Source(
        name="official-solo",
        title=f"{_TITLE}: SOLO, Decoupled SOLO, SOLOv2",
        recognised_by=(r"^bbox_head\.d?solo_cate\.",),
        not_by=_LIGHT,
        rules=_rules("head.mask_tower"),
        keys=KEYS,
    ),
    Source(
        name="official-solo-light",
        title=f"{_TITLE}: Decoupled SOLO Light",
        recognised_by=_LIGHT,
        rules=_rules("head.towers.xy"),
        keys=KEYS,
    ),
)
