"""Models of every kind give maps at strides 4 to 32, for images of any size."""

from typing import Any

import pytest
import timm
import torch
from torch import nn

from solo_family.errors import ConfigError
from solo_family.modeling.timm_backbone import TimmBackbone

from ...conftest import picture, tiny_model
from .small import HIERA, KINDS, SWIN

FEATURES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
EVERY_KIND = [
    "resnet18",
    "resnet50d.ra2_in1k",
    "regnety_008",
    "convnext_tiny.fb_in22k",
    "convnextv2_nano",
    "efficientnet_b0",
    "tf_efficientnet_lite0",
    "tf_efficientnetv2_b0",
    "mobilenetv3_large_100",
    "mobilenetv4_conv_small",
    "repvit_m1",
    "fastvit_t8",
    "pvt_v2_b1",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "maxvit_tiny_tf_224",
    "hiera_tiny_224",
    "mambaout_tiny",
    "vit_small_patch14_dinov2",
    "vit_small_patch16_dinov3",
    "edgenext_small",
    "hrnet_w18",
    "nextvit_small",
    "tiny_vit_5m_224",
    "davit_tiny",
    "cspdarknet53",
    "vgg16_bn",
]


def make(name: str, features: list[str] | None = None, **options: Any) -> TimmBackbone:
    torch.manual_seed(0)
    features = list(FEATURES) if features is None else features
    return TimmBackbone(name=name, in_channels=3, out_features=features, weights="", **options)


def trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(key, weight) for key, weight in model.named_parameters() if weight.requires_grad]


# Of two of one architecture, and of those that maps are made for, one.
FEW = {"test_resnet", "test_mambaout", "swinv2_tiny_window16_256", "test_maxvit", "test_vit"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, options, id=name, marks=() if name in FEW else pytest.mark.slow)
        for name, options in KINDS
    ],
)
def test_maps_of_any_image_are_at_their_strides_and_train(
    name: str, options: dict[str, Any]
) -> None:
    backbone = make(name, **options)
    shapes = backbone.output_shape()
    assert {name: shape.stride for name, shape in shapes.items()} == FEATURES
    for size in ((96, 160), (64, 96)):
        for feature, value in backbone(torch.rand(2, 3, *size)).items():
            stride = FEATURES[feature]
            expected = (2, shapes[feature].channels, size[0] // stride, size[1] // stride)
            assert value.shape == expected, feature
            assert value.isfinite().all()
    sum(value.square().mean() for value in backbone(torch.rand(2, 3, 96, 160)).values()).backward()
    assert [key for key, weight in trained(backbone) if weight.grad is None] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_KIND)
def test_every_kind_trains_a_step_and_finds_objects(name: str) -> None:
    model = tiny_model(opts=timm_keys(name))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    losses = model([picture(192, 256), picture(224, 352, seed=1)])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert [key for key, weight in trained(model) if weight.grad is None] == []
    optimizer.step()
    model.eval()
    for height, width in ((192, 256), (224, 352)):
        image = picture(height, width)
        (result,) = model([image])
        assert result["instances"].image_size == (height, width)
        with torch.no_grad():
            levels = model.backbone(model.preprocess([image["image"]]).tensor)
        assert all(level.isfinite().all() for level in levels.values())


def timm_keys(name: str) -> list[Any]:
    return ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", name]


@pytest.mark.parametrize("name", ["test_vit", "test_maxvit"])
def test_a_method_trains_and_infers_with_it(name: str) -> None:
    model = tiny_model(opts=timm_keys(name))
    losses = model([picture(), picture(96, 64, seed=1)])
    assert all(loss.isfinite() for loss in losses.values())
    image = picture(70, 90)
    (result,) = model.eval()([image])
    assert result["instances"].image_size == (70, 90)


def test_a_plain_transformer_gives_its_last_map_with_its_norm() -> None:
    backbone = make("test_vit", ["res4"]).eval()
    whole = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True).eval()
    whole.load_state_dict(backbone.model.model.state_dict(), strict=False)
    image = torch.rand(1, 3, 96, 160)
    with torch.no_grad():
        tokens = whole.forward_features(image)[:, whole.num_prefix_tokens :]
        expected = tokens.transpose(1, 2).reshape(1, -1, 6, 10)
        torch.testing.assert_close(backbone(image)["res4"], expected)


def test_windows_that_must_divide_the_maps_get_a_padded_image() -> None:
    backbone = make("test_maxvit").eval()
    multiple = backbone.fit.multiple
    assert multiple == max(timm.create_model("test_maxvit").pretrained_cfg["input_size"][1:])
    image = torch.rand(1, 3, 96, 160)
    padded = torch.zeros(1, 3, multiple, -(-160 // multiple) * multiple)
    padded[..., :96, :160] = image
    with torch.no_grad():
        maps = backbone.model(padded)
        for (_, value), expected in zip(backbone(image).items(), maps):
            assert torch.equal(value, expected[..., : value.shape[-2], : value.shape[-1]])


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window16_256"])
def test_swin_gives_what_timm_gives_for_images_of_training(name: str) -> None:
    """But for the last stage, which is a single window: it is shifted as for larger images."""
    backbone = make(name, **SWIN).eval()
    timms = timm.create_model(name, features_only=True, **SWIN).eval()
    timms.load_state_dict(backbone.model.state_dict())
    side = timms.pretrained_cfg["input_size"][-1]
    image = torch.rand(1, 3, side, side)
    with torch.no_grad():
        maps = [value.permute(0, 3, 1, 2) for value in timms(image)]
        for feature, expected in zip(list(FEATURES)[:-1], maps):
            torch.testing.assert_close(backbone(image)[feature], expected)


@pytest.mark.parametrize("name", ["hiera_tiny_224", "hiera_small_abswin_256"])
def test_hiera_gives_what_timm_gives_for_a_model_of_that_size(name: str) -> None:
    backbone = make(name, **HIERA).eval()
    timms = timm.create_model(name, features_only=True, img_size=(192, 256), **HIERA).eval()
    state = backbone.model.state_dict()
    rows = backbone.model.model.trained_shape[0]
    if not name.endswith("abswin_256"):
        plane = state["model.pos_embed"].reshape(1, rows, rows, -1).permute(0, 3, 1, 2)
        plane = torch.nn.functional.interpolate(plane, (48, 64), mode="bicubic", antialias=True)
        state["model.pos_embed"] = plane.flatten(2).transpose(1, 2)
    timms.load_state_dict(state)
    image = torch.rand(1, 3, 192, 256)
    with torch.no_grad():
        backbone(torch.rand(1, 3, 64, 96))  # no trace of another size is left
        for value, expected in zip(backbone(image).values(), timms(image)):
            torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("name", ["test_coatnet", "test_vit_relpos", "mvitv2_tiny"])
def test_a_model_for_one_size_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"MODEL\.TIMM\.NAME is '{name}', which takes .* only"):
        make(name)


def test_a_model_that_cannot_be_dilated_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"OUTPUT_STRIDE is 8, but test_vit can't be dilated"):
        make("test_vit", ["res3"], output_stride=8)


def test_blocks_of_a_transformer_are_frozen_by_timms_names() -> None:
    backbone = make("test_vit", freeze=["patch_embed", "blocks.0"])
    frozen = {key for key, weight in backbone.named_parameters() if not weight.requires_grad}
    assert any(key.endswith("blocks.0.attn.qkv.weight") for key in frozen)
    assert all(".blocks.0." in key or ".patch_embed." in key for key in frozen)
