"""A checkpoint of other names is not loaded by halves: the error says what to type."""

from pathlib import Path

import pytest
import timm
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model

from solo_family.checkpoint.convert import config_of, convert
from solo_family.checkpoint.load import load_weights
from solo_family.errors import DataError

from ..conftest import tiny_model
from .lists import random_weights, save


@pytest.mark.parametrize("complete", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize(
    "name", ["mask_former_r50_v1", "mask_former_swin", "adelaidet_solov2", "official_solo"]
)
def test_other_names_are_told_to_convert(name: str, complete: bool, tmp_path: Path) -> None:
    path = save(tmp_path / "theirs.pth", random_weights(name))
    model = build_model(config_of({**convert(path).keys, "MODEL.DEVICE": "cpu"}))
    torch.save({"model": torch.load(path)["state_dict"]}, path)
    with pytest.raises(DataError, match=rf"python -m solo_family convert {path}"):
        load_weights(DetectionCheckpointer(model), str(path), complete=complete)


def test_own_names_with_another_class_count_are_not(tmp_path: Path) -> None:
    """The names of the official MaskFormer are ours: training starts from all that fits."""
    path = tmp_path / "ours.pth"
    torch.save({"model": tiny_model("MaskFormer", 3).state_dict()}, path)
    load_weights(DetectionCheckpointer(tiny_model("MaskFormer", 5)), str(path), complete=False)


def test_a_torchvision_backbone_is_told_to_convert(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save(random_weights("torchvision_resnet18"), path)
    opts = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
    model = tiny_model("SOLOv2", opts=opts)
    with pytest.raises(DataError, match="python -m solo_family convert"):
        load_weights(DetectionCheckpointer(model), str(path), complete=False)


@pytest.mark.parametrize("name", ["resnet10t", "test_vit"])
def test_a_timm_backbone_is_told_where_it_belongs(name: str, tmp_path: Path) -> None:
    path = tmp_path / "timm.pth"
    torch.save(timm.create_model(name).state_dict(), path)
    opts = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", name]
    with pytest.raises(DataError, match=r"MODEL\.TIMM\.WEIGHTS"):
        load_weights(
            DetectionCheckpointer(tiny_model("SOLOv2", opts=opts)), str(path), complete=False
        )
