"""Pictures of score maps, and the verb that draws them."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from solo_family.__main__ import main
from solo_family.methods.instance_fcn.visualize import draw_score_maps
from solo_family.methods.instance_fcn.windows import DenseMaps

from ...coco_folder import write_cfg
from ...conftest import tiny_cfg, tiny_model

YELLOW = (0, 255, 255)


def constant_maps(values: list[float]) -> DenseMaps:
    """Maps of 20 x 30 cells of 4 pixels, each of one probability."""
    logits = torch.tensor(values).logit()
    return DenseMaps(
        score_maps=logits[:, None, None].expand(-1, 20, 30),
        objectness_logits=torch.zeros((20, 30)),
        features=torch.zeros((1, 20, 30)),
        cell_size=(4.0, 4.0),
    )


def viridis(probability: float) -> list[int]:
    level = np.full((1, 1), round(255 * probability), np.uint8)
    return cv2.applyColorMap(level, cv2.COLORMAP_VIRIDIS)[0, 0].tolist()


def test_maps_stand_in_their_places_and_the_mask_is_made_of_them() -> None:
    values = [0.1, 0.2, 0.3, 0.4, 0.9, 0.6, 0.7, 0.8, 0.25]
    drawn = draw_score_maps(np.zeros((80, 120, 3), np.uint8), constant_maps(values), (10, 15), 9)
    assert drawn.shape == (600, 900 + 4 + 900 + 4 + 600, 3)
    whole, grid, mask = drawn[:, :900], drawn[:, 904:1804], drawn[:, 1808:]
    # Rows 6 to 14 of 20 cells, columns 11 to 19 of 30.
    ys, xs = (whole == YELLOW).all(2).nonzero()
    bounds = [ys.min() / 30, (ys.max() + 1) / 30, xs.min() / 30, (xs.max() + 1) / 30]
    assert bounds == pytest.approx([6, 15, 11, 20], abs=0.1)
    for index, value in enumerate(values):
        i, j = divmod(index, 3)
        assert grid[200 * i + 5, 300 * j + 5].tolist() == viridis(value)
        assert mask[200 * i + 100, 200 * j + 100].tolist() == viridis(value)
    # The frame in a map is the sub-window that is copied from it: here rows 9 to 11 and columns 14
    # to 16, of the middle one.
    ys, xs = (grid[200:400, 300:600] == YELLOW).all(2).nonzero()
    bounds = [ys.min() / 10, (ys.max() + 1) / 10, xs.min() / 10, (xs.max() + 1) / 10]
    assert bounds == pytest.approx([9, 12, 14, 17], abs=0.2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model's config and weights, and a picture."""
    root = tmp_path_factory.mktemp("score_maps")
    torch.save({"model": tiny_model("InstanceFCN").state_dict()}, root / "model.pth")
    cfg = tiny_cfg("InstanceFCN", opts=["MODEL.WEIGHTS", str(root / "model.pth")])
    write_cfg(root / "config.yaml", cfg)
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    Image.fromarray(pixels).save(root / "picture.png")
    return root


def words(place: Path, output: Path, *more: str) -> list[str]:
    return [
        *("visualize-results", "--score-maps", "--config-file", str(place / "config.yaml")),
        *("--input", str(place / "picture.png"), "--output", str(output), *more),
    ]


@pytest.mark.parametrize("window", [(), ("--window", "45", "30"), ("--window", "89.9", "59.9")])
def test_the_verb_writes_a_picture(place: Path, tmp_path: Path, window: tuple[str, ...]) -> None:
    output = tmp_path / "new" / "maps.png"
    assert main(words(place, output, *window)) == 0
    assert Image.open(output).size == (900 + 4 + 900 + 4 + 600, 600)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--window", "90", "10"), "--window is 90 10; .*picture.png has 90 x 60 pixels"),
        (("--opts", "MODEL.META_ARCHITECTURE", "SOLOv2"), "for InstanceFCN, but .* is SOLOv2"),
    ],
)
def test_mistakes_are_one_line(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple, message: str
) -> None:
    assert main(words(place, tmp_path / "maps.png", *more)) == 2
    assert re.search(message, capsys.readouterr().err)


def test_without_a_mask_a_window_must_be_chosen(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model("InstanceFCN")
    torch.nn.init.constant_(model.head.score_maps.bias, -20)
    torch.save({"model": model.state_dict()}, tmp_path / "none.pth")
    opts = ("--opts", "MODEL.WEIGHTS", str(tmp_path / "none.pth"))
    assert main(words(place, tmp_path / "maps.png", *opts)) == 2
    assert "choose one with --window X Y" in capsys.readouterr().err


def test_one_picture_at_a_time(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = words(place, place / "none.png")
    some.insert(some.index("--output"), str(place / "picture.png"))
    assert main(some) == 2
    assert "--input has 2" in capsys.readouterr().err
