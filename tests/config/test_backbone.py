"""What ended with a traceback of detectron2's or torch's, or learnt nothing, is one line."""

import re
from typing import Any

import pytest
import torch

from solo_family.config import check_config
from solo_family.errors import ConfigError
from solo_family.export.formats import ExportGraph, _for_even_and_odd_sides

from ..conftest import eager_to_find, picture, tiny_cfg, tiny_model

_R, _F = "MODEL.RESNETS", "MODEL.FPN"
_GN = "which has 32 groups of channels, but"


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        ([f"{_R}.DEPTH", 60], f"{_R}.DEPTH is 60; allowed: 18, 34, 50, 101, 152."),
        ([f"{_R}.DEPTH", 18], f"whose blocks need {_R}.RES2_OUT_CHANNELS 64, but that is 16."),
        ([f"{_R}.NORM", "XYZ"], f"{_R}.NORM is 'XYZ'; allowed: '', 'BN',"),
        ([f"{_R}.NORM", "GN"], f"{_R}.NORM is GN, {_GN} {_R}.STEM_OUT_CHANNELS is 8. Set "),
        ([f"{_R}.RES5_DILATION", 4], f"{_R}.RES5_DILATION is 4; allowed: 1, 2."),
        ([f"{_R}.RES5_DILATION", 2], f"{_R}.RES5_DILATION is 2, with which res5 has the stride"),
        ([f"{_R}.DEFORM_ON_PER_STAGE", [True]], "is [True]; 4 values are needed"),
        ([f"{_R}.WIDTH_PER_GROUP", 0], f"{_R}.WIDTH_PER_GROUP is 0; at least 1 is needed."),
        ([f"{_F}.NORM", "GN"], f"{_F}.NORM is GN, {_GN} {_F}.OUT_CHANNELS is 16. Set "),
        ([f"{_F}.FUSE_TYPE", "max"], f"{_F}.FUSE_TYPE is 'max'; allowed: 'sum', 'avg'."),
        ([f"{_F}.IN_FEATURES", ["res5", "res4"]], "of strides [32, 16]: name the finest first"),
        ([f"{_F}.IN_FEATURES", ["res2", "res5"]], "of strides [4, 32]: name the finest first"),
        (["MODEL.SOLOV2.NORM", "XYZ"], "MODEL.SOLOV2.NORM is 'XYZ'; allowed:"),
        (["MODEL.SOLOV2.SIGMA", -0.2], "MODEL.SOLOV2.SIGMA is -0.2; at least 0 is needed."),
        (["MODEL.PIXEL_STD", [0.0, 1.0, 1.0]], "MODEL.PIXEL_STD is [0.0, 1.0, 1.0]; pixels are"),
    ],
)
def test_keys_of_a_backbone(opts: list[Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        check_config(tiny_cfg(opts=opts))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("DEPTH", 18, "is 18; allowed: 50, 101, 152."),
        ("STEM_TYPE", "wide", "is 'wide'; allowed: 'basic', 'deeplab'."),
        ("RES4_DILATION", 3, "is 3; allowed: 1, 2."),
        ("RES5_DILATION", 3, "is 3; allowed: 1, 2, 4."),
        ("RES5_MULTI_GRID", [1, 2], "is [1, 2]; three whole numbers from 1"),
        ("OUT_FEATURES", ["stem", "res5"], "has stem; allowed: res2, res3, res4, res5."),
    ],
)
def test_keys_of_the_resnet_of_deeplab(key: str, value: Any, said: str) -> None:
    backbone = ["MODEL.BACKBONE.NAME", "build_resnet_deeplab_backbone"]
    with pytest.raises(ConfigError, match=re.escape(f"{_R}.{key} {said}")):
        check_config(tiny_cfg("MaskFormer", opts=[*backbone, f"{_R}.{key}", value]))
    dilated = [f"{_R}.RES4_DILATION", 2, f"{_R}.RES5_DILATION"]
    check_config(tiny_cfg("MaskFormer", opts=[*backbone, *dilated, 4]))
    with pytest.raises(ConfigError, match=r"RES5_DILATION is 1; allowed: 4\."):
        check_config(tiny_cfg("MaskFormer", opts=[*backbone, *dilated, 1]))


def test_groups_of_deformable_convolutions() -> None:
    opts = [f"{_R}.DEFORM_NUM_GROUPS", 3, f"{_R}.DEFORM_ON_PER_STAGE", [False, True, True, True]]
    with pytest.raises(ConfigError, match=r"does not divide the 8 channels .* of res3"):
        check_config(tiny_cfg(opts=opts))
    check_config(tiny_cfg(opts=[*opts, f"{_R}.DEFORM_NUM_GROUPS", 4]))


def test_what_the_messages_ask_for_passes() -> None:
    groups = [f"{_R}.NORM", "GN", f"{_R}.STEM_OUT_CHANNELS", 32, f"{_R}.RES2_OUT_CHANNELS", 32]
    groups += [f"{_R}.WIDTH_PER_GROUP", 32, f"{_F}.NORM", "GN", f"{_F}.OUT_CHANNELS", 32]
    for opts in (groups, [f"{_R}.DEPTH", 18, f"{_R}.RES2_OUT_CHANNELS", 64]):
        check_config(tiny_cfg(opts=opts))
        assert tiny_model(opts=opts)([picture(), picture(seed=1)])


_M, _H = "MODEL.MASK_FORMER", "MODEL.SEM_SEG_HEAD"
_ENCODER = [f"{_H}.PIXEL_DECODER_NAME", "TransformerEncoderPixelDecoder"]


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        ([f"{_H}.NORM", "XYZ"], f"{_H}.NORM is 'XYZ'; allowed:"),
        ([f"{_H}.NORM", "GN", f"{_H}.PIXEL_DECODER_NAME", "SemSegFPNHead"], f"{_GN} {_H}.CONVS_"),
        ([f"{_H}.IN_FEATURES", []], f"{_H}.IN_FEATURES has no names"),
        (
            [*_ENCODER, f"{_H}.TRANSFORMER_ENC_LAYERS", 1, f"{_H}.CONVS_DIM", 18],
            f"{_H}.CONVS_DIM is 18; it must be a multiple of {_M}.NHEADS (2), and of 4",
        ),
        ([f"{_M}.OVERSAMPLE_RATIO", 0.5], f"{_M}.OVERSAMPLE_RATIO is 0.5; at least 1 is needed."),
        ([f"{_M}.NO_OBJECT_WEIGHT", -0.1], f"{_M}.NO_OBJECT_WEIGHT is -0.1; at least 0"),
    ],
)
def test_keys_of_maskformer(opts: list[Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        check_config(tiny_cfg("MaskFormer", opts=opts))


def test_keys_of_instance_fcn() -> None:
    prefix = "MODEL.INSTANCE_FCN"
    for key, value in (("OBJECT_SIZE", 0), ("POSITIVE_SHIFT", -1), ("POSITIVE_OCTAVES", -0.5)):
        with pytest.raises(ConfigError, match=rf"^{prefix}\.{key} is {value}; at least"):
            check_config(tiny_cfg("InstanceFCN", opts=[f"{prefix}.{key}", value]))
    with pytest.raises(ConfigError, match=rf"^{prefix}\.IN_FEATURE is p6, of stride 64, but"):
        tiny_model("InstanceFCN", opts=[f"{prefix}.IN_FEATURE", "p6"])


@pytest.mark.parametrize("backbone", ["build_resnet_fpn_backbone", "build_timm_fpn_backbone"])
def test_a_pyramid_without_res5(backbone: str) -> None:
    """detectron2 pools p5, which this one lacks: the first image ended with a traceback."""
    names = ["res2", "res3", "res4"]
    opts = ["MODEL.BACKBONE.NAME", backbone, f"{_F}.IN_FEATURES", names]
    opts += ["MODEL.SOLOV2.INSTANCE_IN_FEATURES", ["p2", "p3", "p4", "p4", "p5"]]
    opts += ["MODEL.SOLOV2.MASK_IN_FEATURES", ["p2", "p3", "p4"], "MODEL.TIMM.NAME", "resnet10t"]
    check_config(tiny_cfg(opts=opts))
    model = eager_to_find(tiny_model(opts=opts))
    with torch.no_grad():
        features = model.backbone(torch.zeros(1, 3, 64, 96))
        assert torch.equal(features["p5"], features["p4"][:, :, ::2, ::2])
        assert len(model([picture()])[0]["instances"])


def test_neighbours_of_a_timm_model() -> None:
    opts = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", "resnet10t"]
    with pytest.raises(ConfigError, match=r"of strides \[4, 16\]: name the finest first"):
        tiny_model(opts=[*opts, f"{_F}.IN_FEATURES", ["res2", "res4"]])


def test_a_pyramid_without_res5_for_torch_export() -> None:
    """Its pooling is replaced there, and has to take the same level."""
    opts = [f"{_F}.IN_FEATURES", ["res2", "res3", "res4"]]
    opts += ["MODEL.SOLOV2.INSTANCE_IN_FEATURES", ["p2", "p3", "p4", "p4", "p5"]]
    opts += ["MODEL.SOLOV2.MASK_IN_FEATURES", ["p2", "p3", "p4"]]
    model = tiny_model(opts=opts).eval()
    graph = _for_even_and_odd_sides(ExportGraph(model)).model
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(graph.backbone(images)["p5"], model.backbone(images)["p5"])
