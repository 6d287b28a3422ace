"""Weights that were trained on three colours, in models of other channels."""

import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from solo_family.checkpoint.load import load_weights
from solo_family.errors import DataError
from solo_family.modeling.stem import adapt_stem, colour_places

from ..conftest import tiny_cfg

STEM = "backbone.bottom_up.stem.conv1.weight"


def cfg_of(name: str, channels: int, *opts: Any) -> CfgNode:
    statistics = ["MODEL.PIXEL_MEAN", [100.0] * channels, "MODEL.PIXEL_STD", [50.0] * channels]
    return tiny_cfg(opts=["INPUT.FORMAT", name, *statistics, *opts])


def kernels(weight: torch.Tensor, channels: int, places: list[int]) -> torch.Tensor:
    """The definition: the colours' own kernels, and their mean for all others."""
    result = torch.empty(len(weight), channels, *weight.shape[2:])
    for channel in range(channels):
        result[:, channel] = sum(weight[:, i] for i in range(3)) / 3
        if channel in places:
            result[:, channel] = weight[:, places.index(channel)]
    return result


@pytest.mark.parametrize("channels", [1, 2])
def test_the_same_value_in_fewer_channels_gives_the_same(channels: int) -> None:
    weight = torch.randn(8, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    grey = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(1))
    expected = torch.conv2d(grey.expand(-1, 3, -1, -1), weight)
    found = torch.conv2d(grey.expand(-1, channels, -1, -1), adapt_stem(weight, channels))
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "channels", "places"),
    [
        ("CBGRN", 5, [1, 2, 3]),
        pytest.param("RGBN", 4, [0, 1, 2], marks=pytest.mark.slow),
        pytest.param("5ch", 5, [0, 1, 2], marks=pytest.mark.slow),
    ],
)
def test_training_starts_with_the_colours_kernels(
    name: str,
    channels: int,
    places: list[int],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    three = build_model(cfg_of("RGB", 3))
    torch.save({"model": three.state_dict()}, tmp_path / "three.pth")
    cfg = cfg_of(name, channels)
    model = build_model(cfg)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    logging.getLogger("solo_family").propagate = True
    load_weights(
        DetectionCheckpointer(model),
        str(tmp_path / "three.pth"),
        complete=False,
        colours=colour_places(cfg),
    )
    weight = three.state_dict()[STEM]
    assert torch.equal(model.state_dict()[STEM], kernels(weight, channels, places))
    assert f"{STEM} is of 3 channels, the model's of {channels}" in caplog.text
    # The others are the file's, and the optimizer still has the model's own parameters.
    others = [key for key in three.state_dict() if key != STEM]
    assert all(torch.equal(model.state_dict()[k], three.state_dict()[k]) for k in others)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {
        id(p) for p in model.parameters()
    }


def test_a_checkpoint_of_the_same_channels_is_loaded_as_it_is(tmp_path: Path) -> None:
    cfg = cfg_of("RGBN", 4)
    saved, model = build_model(cfg), build_model(cfg)
    torch.save({"model": saved.state_dict()}, tmp_path / "four.pth")
    load_weights(DetectionCheckpointer(model), str(tmp_path / "four.pth"), complete=False)
    assert torch.equal(model.state_dict()[STEM], saved.state_dict()[STEM])


def test_inference_adapts_nothing(tmp_path: Path) -> None:
    torch.save({"model": build_model(cfg_of("RGB", 3)).state_dict()}, tmp_path / "three.pth")
    model = build_model(cfg_of("RGBN", 4))
    with pytest.raises(DataError, match=r"stem\.conv1\.weight: \(8, 3, 7, 7\) in the file"):
        load_weights(DetectionCheckpointer(model), str(tmp_path / "three.pth"), complete=True)


def test_detectron2s_own_names_are_adapted_too(tmp_path: Path) -> None:
    """As R-50.pkl has them: without the model's prefixes, matched by their ends."""
    three = build_model(cfg_of("RGB", 3))
    prefix = "backbone.bottom_up."
    state = {
        key.removeprefix(prefix): value
        for key, value in three.state_dict().items()
        if key.startswith(prefix)
    }
    file = {"model": state, "matching_heuristics": True, "__author__": "a test"}
    torch.save(file, tmp_path / "R-50.pth")
    model = build_model(cfg_of("5ch", 5))
    load_weights(DetectionCheckpointer(model), str(tmp_path / "R-50.pth"), complete=False)
    expected = kernels(three.state_dict()[STEM], 5, [0, 1, 2])
    assert torch.equal(model.state_dict()[STEM], expected)


@pytest.mark.parametrize(
    ("backbone", "name", "first"),
    [
        ("build_timm_fpn_backbone", "resnet18", "conv1"),
        ("build_timm_fpn_backbone", "edgenext_xx_small", "stem_0"),
    ],
)
def test_timms_weights_are_adapted(backbone: str, name: str, first: str, tmp_path: Path) -> None:
    state = timm.create_model(name).state_dict()
    torch.save(state, tmp_path / "timm.pth")
    opts = ["MODEL.BACKBONE.NAME", backbone, "MODEL.TIMM.NAME", name]
    model = build_model(cfg_of("5ch", 5, *opts, "MODEL.TIMM.WEIGHTS", str(tmp_path / "timm.pth")))
    found = model.backbone.bottom_up.model.get_parameter(f"{first}.weight")
    weight = state[f"{first.replace('_', '.')}.weight"]
    assert torch.equal(found, kernels(weight, 5, [0, 1, 2]))
