"""Build SparseInst's backbones under their official names: ResNet-vd, CSPNet, PVTv2, all from timm.

Weights come from `MODEL.TIMM.WEIGHTS`; "pretrained" selects those that the official configs start
from.
"""

from dataclasses import replace
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from timm.layers import convert_sync_batchnorm, freeze_batch_norm_2d
from timm.models.cspnet import model_cfgs
from torch import nn

from ...errors import ConfigError
from ...modeling.layers import DeformConv2d
from ...modeling.stem import colour_places
from ...modeling.timm_backbone import TimmBackbone

_VD_DEPTHS = (18, 34, 50, 101, 152)
_PVT_NAMES = ("b0", "b1", "b2", "b3", "b4", "b5")
_NORMS = ("", "BN", "FrozenBN", "SyncBN")


def build_resnet_vd_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build ResNet-D (arXiv 1812.01187, section 4), called vd, from `MODEL.RESNETS`.

    The keys read are DEPTH, NORM, OUT_FEATURES (res2 to res5), and DEFORM_ON_PER_STAGE for
    deformable convolutions. STEM_OUT_CHANNELS and WIDTH_PER_GROUP, the channels of the stem and of
    the 3x3 convolutions of res2, scale all others. `MODEL.BACKBONE.FREEZE_AT` acts as for
    detectron2's ResNet.
    """
    resnets = cfg.MODEL.RESNETS
    if resnets.DEPTH not in _VD_DEPTHS:
        raise ConfigError(f"MODEL.RESNETS.DEPTH is {resnets.DEPTH}; allowed: {_VD_DEPTHS}.")
    parts = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_AT
    backbone = TimmBackbone(
        name=f"resnet{resnets.DEPTH}d",
        in_channels=input_shape.channels or 3,
        out_features=resnets.OUT_FEATURES,
        weights=_weights(cfg),
        colours=colour_places(cfg),
        freeze=parts[: freeze_at + 1] if freeze_at else (),
        strides={"res2": 4, "res3": 8, "res4": 16, "res5": 32},
        key="MODEL.RESNETS",
        # timm's width is that of the first two of the stem's three convolutions.
        stem_width=resnets.STEM_OUT_CHANNELS // 2,
        channels=[resnets.WIDTH_PER_GROUP << stage for stage in range(4)],
    )
    for stage, deform in enumerate(resnets.DEFORM_ON_PER_STAGE, start=1):
        if deform:
            _make_deformable(getattr(backbone.model, f"layer{stage}"), resnets.DEFORM_MODULATED)
    return _with_norm(backbone, resnets.NORM, "MODEL.RESNETS.NORM")


def build_cspnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build a DarkNet or CSPNet (arXiv 1911.11929) from `MODEL.CSPNET`.

    NAME is timm's; OUT_FEATURES are csp0, csp1, ... after its stages, the last of stride 32.
    CHANNELS are those of the stem and of each stage; without them NAME's own are used.
    """
    cspnet = cfg.MODEL.CSPNET
    first = 4 if cspnet.NAME.startswith(("cspresne", "resnet")) else 2
    backbone = TimmBackbone(
        name=cspnet.NAME,
        in_channels=input_shape.channels or 3,
        out_features=cspnet.OUT_FEATURES,
        weights=_weights(cfg),
        colours=colour_places(cfg),
        freeze=cfg.MODEL.TIMM.FREEZE,
        strides={f"csp{stage}": first << stage for stage in range(5)},
        key="MODEL.CSPNET",
        **_cspnet_channels(cspnet),
    )
    return _with_norm(backbone, cspnet.NORM, "MODEL.CSPNET.NORM")


def build_pyramid_vision_transformer(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build PVTv2 (arXiv 2106.13797) from `MODEL.PVT`.

    NAME is b0 to b5; LINEAR selects the linear attention of b2; OUT_FEATURES are p1 (stride 4) to
    p4. EMBED_DIMS are the channels of the four stages; without them NAME's own are used.
    """
    pvt = cfg.MODEL.PVT
    if pvt.NAME not in _PVT_NAMES or (pvt.LINEAR and pvt.NAME != "b2"):
        raise ConfigError(
            f"MODEL.PVT.NAME is {pvt.NAME!r} and MODEL.PVT.LINEAR {pvt.LINEAR}; allowed names: "
            f"{', '.join(_PVT_NAMES)}, with LINEAR only b2."
        )
    if len(pvt.EMBED_DIMS) not in (0, 4):
        raise ConfigError(
            f"MODEL.PVT.EMBED_DIMS is {pvt.EMBED_DIMS}; it needs the channels of each of the four "
            "stages, or nothing for those of MODEL.PVT.NAME."
        )
    return TimmBackbone(
        name=f"pvt_v2_{pvt.NAME}" + ("_li" if pvt.LINEAR else ""),
        in_channels=input_shape.channels or 3,
        out_features=pvt.OUT_FEATURES,
        weights=_weights(cfg),
        colours=colour_places(cfg),
        freeze=cfg.MODEL.TIMM.FREEZE,
        strides={"p1": 4, "p2": 8, "p3": 16, "p4": 32},
        key="MODEL.PVT",
        drop_path_rate=0.1,
        **({"embed_dims": pvt.EMBED_DIMS} if pvt.EMBED_DIMS else {}),
    )


def _cspnet_channels(cspnet: CfgNode) -> dict[str, Any]:
    """Return timm's options for `MODEL.CSPNET.CHANNELS`."""
    if not cspnet.CHANNELS:
        return {}
    published = model_cfgs.get(cspnet.NAME)
    stages = len(published.stages.depth) if published else 0
    if not published or len(cspnet.CHANNELS) != 1 + stages:
        raise ConfigError(
            f"MODEL.CSPNET.CHANNELS is {cspnet.CHANNELS}; it needs the channels of the stem and of "
            f"each of the {stages} stages of MODEL.CSPNET.NAME {cspnet.NAME!r}, or nothing for its "
            "own."
        )
    stem, *outputs = cspnet.CHANNELS
    return {
        "stem": replace(published.stem, out_chs=stem),
        "stages": replace(published.stages, out_chs=tuple(outputs)),
    }


def _weights(cfg: CfgNode) -> str:
    return "" if cfg.MODEL.WEIGHTS else cfg.MODEL.TIMM.WEIGHTS


def _make_deformable(stage: nn.Module, modulated: bool) -> None:
    """Make the 3x3 convolutions of a stage's blocks deformable, keeping their weights."""
    for block in stage.children():
        plain = block.conv2
        assert isinstance(plain, nn.Conv2d)
        deformable = DeformConv2d(
            plain.in_channels,
            plain.out_channels,
            plain.kernel_size[0],
            stride=plain.stride[0],
            padding=plain.kernel_size[0] // 2,
            bias=False,
            modulated=modulated,
        )
        deformable.weight = nn.Parameter(plain.weight.detach())
        block.conv2 = deformable


def _with_norm(backbone: TimmBackbone, norm: str, key: str) -> TimmBackbone:
    if norm not in _NORMS:
        raise ConfigError(f"{key} is {norm!r}; allowed: {', '.join(map(repr, _NORMS))}.")
    if norm == "FrozenBN":
        return freeze_batch_norm_2d(backbone)
    return convert_sync_batchnorm(backbone) if norm == "SyncBN" else backbone
