"""The à trous VGG-16 against torchvision's plain one."""

from pathlib import Path

import pytest
import torch
from detectron2.layers import ShapeSpec
from torchvision.models import VGG, vgg16

from solo_family.config import get_cfg
from solo_family.errors import ConfigError
from solo_family.methods.instance_fcn.vgg import AtrousVGG16, build_vgg_atrous_backbone


@pytest.fixture(scope="module")
def plain() -> VGG:
    torch.manual_seed(0)
    return vgg16().eval()


@pytest.fixture(scope="module")
def checkpoint(plain: VGG, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    # As torchvision saves it, but for most of the classifier, which is half a gigabyte.
    state = {key: value for key, value in plain.state_dict().items() if "classifier.0" not in key}
    torch.save(state, path)
    return path


@pytest.mark.slow
def test_every_second_position_is_the_plain_networks(plain: VGG, checkpoint: Path) -> None:
    backbone = AtrousVGG16(weights=str(checkpoint)).eval()
    image = torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        dense = backbone(image)["conv5"]
        sparse = plain.features[:30](image)
    assert dense.shape == (2, 512, 12, 20)
    assert sparse.std() > 0.01
    torch.testing.assert_close(dense[:, :, ::2, ::2], sparse, rtol=1e-4, atol=1e-5)


def test_stride_and_channels_are_those_that_it_says() -> None:
    shape = AtrousVGG16().output_shape()
    assert {name: (s.channels, s.stride) for name, s in shape.items()} == {"conv5": (512, 8)}


def test_names_are_torchvisions(plain: VGG) -> None:
    theirs = {key for key in plain.state_dict() if key.startswith("features.")}
    assert set(AtrousVGG16().state_dict()) == theirs
    assert len(theirs) == 26


def test_the_first_stages_can_be_frozen() -> None:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    backbone = build_vgg_atrous_backbone(cfg, ShapeSpec(channels=3))
    frozen = {key.split(".")[1] for key, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"0", "2", "5", "7"}
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    backbone = build_vgg_atrous_backbone(cfg, ShapeSpec(channels=3))
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_other_channels_of_the_input() -> None:
    assert AtrousVGG16(in_channels=1).features[0].weight.shape == (64, 1, 3, 3)


def test_a_checkpoint_that_is_missing_or_of_another_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"MODEL\.VGG\.WEIGHTS .*none\.pth: there is no such"):
        AtrousVGG16(weights=str(tmp_path / "none.pth"))
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"lacks 26 of VGG-16's.*features\.0\.weight first"):
        AtrousVGG16(weights=str(tmp_path / "other.pth"))


def test_weights_of_the_whole_model_take_the_backbones_place(checkpoint: Path) -> None:
    cfg = get_cfg()
    cfg.MODEL.VGG.WEIGHTS = "nowhere.pth"
    cfg.MODEL.WEIGHTS = "whole_model.pth"
    build_vgg_atrous_backbone(cfg, ShapeSpec(channels=3))
    cfg.MODEL.WEIGHTS = ""
    with pytest.raises(ConfigError, match="nowhere"):
        build_vgg_atrous_backbone(cfg, ShapeSpec(channels=3))
