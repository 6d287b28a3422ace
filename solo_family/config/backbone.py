"""Check the keys of detectron2's ResNet and FPN, which they assert, or find out in the first image.

The backbones of this package check their own.
"""

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from ..errors import ConfigError
from ..modeling.shapes import check_doubling
from .rules import check_at_least, check_one_of, get_key

# What detectron2's `get_norm` knows.
NORMS = ("", "BN", "SyncBN", "FrozenBN", "GN", "LN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")
_GROUPS = 32  # of its group norm
_STRIDES = {"stem": 4, "res2": 4, "res3": 8, "res4": 16, "res5": 32}
_SHAPES = {name: ShapeSpec(stride=stride) for name, stride in _STRIDES.items()}
_STAGES = ["res2", "res3", "res4", "res5"]
_RESNETS = (
    "build_resnet_backbone",
    "build_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone",
)
# These have pyramids, by the keys of the model below.
_PYRAMIDS = {
    "build_resnet_fpn_backbone": "RESNETS",
    "build_retinanet_resnet_fpn_backbone": "RESNETS",
    "build_timm_fpn_backbone": "TIMM",
}
# What the blocks of these depths need.
_OF_BASIC_BLOCKS = {
    "RES2_OUT_CHANNELS": 64,
    "NUM_GROUPS": 1,
    "RES5_DILATION": 1,
    "DEFORM_ON_PER_STAGE": [False] * 4,
}


def check_backbone(cfg: CfgNode) -> None:
    """Check the keys of detectron2's ResNet and of pyramids.

    Raises:
        ConfigError: names the key, its value, and what is allowed.
    """
    name = cfg.MODEL.BACKBONE.NAME
    if name in _RESNETS:
        _check_resnet(cfg)
    if name == "build_resnet_deeplab_backbone":
        _check_deeplab(cfg)
    if name in _PYRAMIDS:
        _check_pyramid(cfg, _PYRAMIDS[name])


def check_norm(cfg: CfgNode, key: str, channels: Sequence[str] = ()) -> None:
    """Refuse a norm that is unknown, or of groups that don't divide channels.

    Args:
        cfg: the configuration.
        key: the key of the norm.
        channels: the keys of the numbers of channels that detectron2's group norm divides.

    Raises:
        ConfigError: names the key, its value, and what is allowed.
    """
    check_one_of(cfg, key, NORMS)
    if get_key(cfg, key) != "GN":
        return
    for other in channels:
        count = get_key(cfg, other)
        if count % _GROUPS:
            raise ConfigError(
                f"{key} is GN, which has {_GROUPS} groups of channels, but {other} is {count}. Set "
                f"{other} {-(-count // _GROUPS) * _GROUPS}, or {key} BN."
            )


def _check_resnet(cfg: CfgNode) -> None:
    resnets, prefix = cfg.MODEL.RESNETS, "MODEL.RESNETS"
    widths = ("STEM_OUT_CHANNELS", "RES2_OUT_CHANNELS", "WIDTH_PER_GROUP", "NUM_GROUPS")
    check_at_least(cfg, [f"{prefix}.{key}" for key in (*widths, "DEFORM_NUM_GROUPS")])
    check_one_of(cfg, f"{prefix}.DEPTH", (18, 34, 50, 101, 152))
    check_one_of(cfg, f"{prefix}.RES5_DILATION", (1, 2))
    if len(resnets.DEFORM_ON_PER_STAGE) != len(_STAGES):
        raise ConfigError(
            f"{prefix}.DEFORM_ON_PER_STAGE is {list(resnets.DEFORM_ON_PER_STAGE)}; {len(_STAGES)} "
            "values are needed, True or False for each of res2 to res5."
        )
    channels = [f"{prefix}.STEM_OUT_CHANNELS", f"{prefix}.RES2_OUT_CHANNELS"]
    if resnets.DEPTH in (18, 34):
        for key, needed in _OF_BASIC_BLOCKS.items():
            if resnets[key] not in (needed, tuple(needed) if isinstance(needed, list) else needed):
                raise ConfigError(
                    f"{prefix}.DEPTH is {resnets.DEPTH}, whose blocks need {prefix}.{key} "
                    f"{needed}, but that is {resnets[key]}. Set it, or {prefix}.DEPTH 50."
                )
    elif resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP % _GROUPS:
        channels.append(f"{prefix}.WIDTH_PER_GROUP")
    check_norm(cfg, f"{prefix}.NORM", channels)
    _check_deformable(resnets, prefix)
    _check_names(cfg, f"{prefix}.OUT_FEATURES", ["stem", *_STAGES])


def _check_deeplab(cfg: CfgNode) -> None:
    """Check the keys of the ResNet of detectron2's DeepLab project, whose res4 can be dilated."""
    prefix = "MODEL.RESNETS"
    widths = ("STEM_OUT_CHANNELS", "RES2_OUT_CHANNELS", "WIDTH_PER_GROUP", "NUM_GROUPS")
    check_at_least(cfg, [f"{prefix}.{key}" for key in (*widths, "DEFORM_NUM_GROUPS")])
    check_one_of(cfg, f"{prefix}.DEPTH", (50, 101, 152))
    check_one_of(cfg, f"{prefix}.STEM_TYPE", ("basic", "deeplab"))
    check_one_of(cfg, f"{prefix}.RES4_DILATION", (1, 2))
    dilated = cfg.MODEL.RESNETS.RES4_DILATION == 2
    check_one_of(cfg, f"{prefix}.RES5_DILATION", (4,) if dilated else (1, 2, 4))
    grid = cfg.MODEL.RESNETS.RES5_MULTI_GRID
    if len(grid) != 3 or any(type(step) is not int or step < 1 for step in grid):
        raise ConfigError(
            f"{prefix}.RES5_MULTI_GRID is {list(grid)}; three whole numbers from 1 are needed, one "
            "for each block of res5, for instance [1, 2, 4]."
        )
    check_norm(cfg, f"{prefix}.NORM", [f"{prefix}.{key}" for key in widths[:2]])
    _check_names(cfg, f"{prefix}.OUT_FEATURES", _STAGES)


def _check_deformable(resnets: CfgNode, prefix: str) -> None:
    groups = resnets.DEFORM_NUM_GROUPS
    for stage, (name, deforms) in enumerate(zip(_STAGES, resnets.DEFORM_ON_PER_STAGE)):
        channels = resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP * 2**stage
        if deforms and channels % groups:
            raise ConfigError(
                f"{prefix}.DEFORM_NUM_GROUPS is {groups}, which does not divide the {channels} "
                f"channels of the deformable convolutions of {name}. Set {prefix}."
                "DEFORM_NUM_GROUPS 1."
            )


def _check_pyramid(cfg: CfgNode, source: str) -> None:
    fpn = cfg.MODEL.FPN
    given = f"MODEL.{source}.OUT_FEATURES"
    _check_names(cfg, "MODEL.FPN.IN_FEATURES", get_key(cfg, given), f" ({given})")
    names = list(fpn.IN_FEATURES)
    # The strides of timm's models, and what takes them, are known when they are built.
    if source == "RESNETS":
        check_doubling("MODEL.FPN.IN_FEATURES", names, _SHAPES)
    check_at_least(cfg, ["MODEL.FPN.OUT_CHANNELS"])
    check_one_of(cfg, "MODEL.FPN.FUSE_TYPE", ("sum", "avg"))
    check_norm(cfg, "MODEL.FPN.NORM", ["MODEL.FPN.OUT_CHANNELS"])
    if source == "RESNETS" and cfg.MODEL.RESNETS.RES5_DILATION != 1 and "res5" in names:
        raise ConfigError(
            f"MODEL.RESNETS.RES5_DILATION is {cfg.MODEL.RESNETS.RES5_DILATION}, with which res5 "
            "has the stride of res4, but a pyramid needs twice that. Set "
            "MODEL.RESNETS.RES5_DILATION 1."
        )


def _check_names(cfg: CfgNode, key: str, allowed: Sequence[str], source: str = "") -> None:
    names = get_key(cfg, key)
    unknown = [str(name) for name in names if name not in allowed]
    if unknown or not names:
        raise ConfigError(
            f"{key} has {', '.join(unknown) or 'no names'}; allowed: {', '.join(allowed)}{source}."
        )
