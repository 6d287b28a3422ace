"""The simple feature pyramid, against detectron2's, by the authors of ViTDet."""

import pytest
import torch
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from solo_family.modeling.timm_backbone import TimmBackbone, build_timm_fpn_backbone
from solo_family.modeling.timm_models.pyramid import SimpleFeaturePyramid, make_level

from ...conftest import tiny_cfg

vit = pytest.importorskip("detectron2.modeling.backbone.vit")


class LastMap(Backbone):
    """Gives res4 of another backbone."""

    def __init__(self, backbone: TimmBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self._out_features = ["res4"]
        self._out_feature_strides = {"res4": 16}
        self._out_feature_channels = {"res4": backbone.output_shape()["res4"].channels}

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"res4": self.backbone(x)["res4"]}


def test_equals_detectron2s() -> None:
    torch.manual_seed(0)
    cfg = tiny_cfg(opts=["MODEL.TIMM.NAME", "test_vit"])
    ours = build_timm_fpn_backbone(cfg, type("Shape", (), {"channels": 3})()).eval()
    assert isinstance(ours, SimpleFeaturePyramid)
    assert isinstance(ours.bottom_up, TimmBackbone)
    theirs = vit.SimpleFeaturePyramid(
        LastMap(ours.bottom_up), "res4", 16, (4.0, 2.0, 1.0, 0.5), LastLevelMaxPool()
    ).eval()
    for stage, name in zip(theirs.stages, ("res2", "res3", "res4", "res5")):
        made = ours.bottom_up.made[name] if name in ours.bottom_up.made else nn.Sequential()
        parts = [*made, *ours.levels[name]]
        for part in parts:
            for weight in part.parameters():
                nn.init.normal_(weight, std=0.3)
        assert len(parts) == len(stage)
        for part, reference in zip(parts, stage):
            reference.load_state_dict(part.state_dict())
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = theirs(image)
        levels = ours(image)
    assert list(levels) == list(expected) == ["p2", "p3", "p4", "p5", "p6"]
    assert levels["p2"].std() > 0.1
    for name, level in levels.items():
        torch.testing.assert_close(level, expected[name])
    assert {name: shape.stride for name, shape in ours.output_shape().items()} == {
        name: shape.stride for name, shape in theirs.output_shape().items()
    }


@pytest.mark.parametrize(
    ("stride", "wanted", "channels"), [(32, 4, 8), (8, 4, 32), (8, 32, 64), (16, 16, 64)]
)
def test_levels_from_maps_of_other_strides(stride: int, wanted: int, channels: int) -> None:
    level, out_channels = make_level(64, stride, wanted)
    assert out_channels == channels
    size = level(torch.rand(1, 64, 64 // stride, 128 // stride)).shape
    assert size == (1, channels, 64 // wanted, 128 // wanted)
