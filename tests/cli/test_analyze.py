"""Counts of a model's parts, against counts by hand and over METHODS."""

import json
import re
from pathlib import Path

import pytest
import torch
from detectron2.utils.analysis import FlopCountAnalysis
from torch import Tensor, nn

from solo_family import METHODS
from solo_family.__main__ import main
from solo_family.cli.analyze import count_parts
from solo_family.modeling.layers.deform_conv import DeformConv2d

from ..coco_folder import write_cfg
from ..conftest import eager_to_find, picture, tiny_cfg, tiny_model


class TwoParts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3, padding=1)
        self.backbone.bias.requires_grad_(False)
        self.head = nn.Linear(4, 5, bias=False)
        self.scale = nn.Parameter(torch.ones(4, 4))

    def forward(self, inputs: list[dict[str, Tensor]]) -> Tensor:
        x = self.backbone(inputs[0]["image"][None])
        return self.head(x.mean((2, 3)) @ self.scale)


def test_parts_are_counted_as_by_hand() -> None:
    counts = count_parts(TwoParts(), torch.zeros(3, 6, 10))
    assert vars(counts["backbone"]) == {
        "parameters": 4 * 3 * 9 + 4,
        "trained": 4 * 3 * 9,
        "flops": 2 * (3 * 9) * 4 * 60,
        "activations": 4 * 60,
    }
    assert vars(counts["head"]) == {
        "parameters": 20,
        "trained": 20,
        "flops": 2 * 4 * 5,
        "activations": 5,
    }
    assert vars(counts["other"]) == {
        "parameters": 16,
        "trained": 16,
        "flops": 2 * 4 * 4,
        "activations": 0,
    }
    for field, value in vars(counts["total"]).items():
        assert value == sum(getattr(counts[part], field) for part in ("backbone", "head", "other"))


def test_a_deformable_convolution_counts_as_a_convolution() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = DeformConv2d(3, 4, 3, padding=1)

        def forward(self, inputs: list[dict[str, Tensor]]) -> Tensor:
            return self.conv(inputs[0]["image"][None])

    counts = count_parts(Model(), torch.zeros(3, 6, 10))
    offsets = 18  # two for each of the kernel's nine places
    assert counts["conv"].flops == 2 * (3 * 9) * (4 + offsets) * 60
    assert counts["conv"].activations == (4 + offsets) * 60


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_is_counted(method: str) -> None:
    model = tiny_model(method).eval()
    counts = count_parts(model, torch.zeros(3, 64, 96))
    assert counts["total"].parameters == sum(p.numel() for p in model.parameters())
    assert counts["backbone"].flops > 0
    assert sum(count.flops for name, count in counts.items() if name != "total") == (
        counts["total"].flops
    )


@pytest.mark.parametrize("method", sorted(METHODS))
def test_detectron2s_own_analysis_counts_the_same(method: str) -> None:
    """That of its tools/analyze_model.py, which traces a model that finds objects."""
    model = eager_to_find(tiny_model(method))
    image = picture()["image"]
    assert len(model([{"image": image}])[0]["instances"]) > 0
    counter = FlopCountAnalysis(model, [{"image": image}])
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    backbone = counter.by_module_and_operator()["model.backbone"]
    # The tracer drops what nothing reads: levels of the pyramid, with InstanceFCN.
    ours = count_parts(model, image)["backbone"].flops
    assert 0.9 * ours < 2 * backbone["conv"] <= ours


def test_the_verb_prints_a_table_and_writes_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_cfg(tmp_path / "tiny.yaml", tiny_cfg())
    words = ["analyze", "--config-file", config, "--size", 64, 96, "--json", tmp_path / "a.json"]
    assert main(list(map(str, words))) == 0
    assert "SOLOv2, one image of 64 x 96" in capsys.readouterr().out
    assert json.loads((tmp_path / "a.json").read_text())["total"]["flops"] > 1e6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "0", "5"], "--size is 0 5; height and width are 1 pixel or more"),
        (["--size", "-1", "5"], "--size is -1 5; height and width are 1 pixel or more"),
        (["--opts", "INPUT.MIN_SIZE_TEST", "0"], "MIN_SIZE_TEST is 0, .* with --size H W"),
    ],
)
def test_an_image_without_a_size_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    config = write_cfg(tmp_path / "tiny.yaml", tiny_cfg())
    assert main(["analyze", "--config-file", str(config), *words]) == 2
    assert re.search(message, capsys.readouterr().err)
    if "--opts" in words:
        assert main(["benchmark", "--config-file", str(config), *words]) == 2
        assert "Name pictures with --input" in capsys.readouterr().err
