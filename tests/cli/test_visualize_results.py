"""Activation maps beside masks, and their mean over a dataset."""

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from solo_family.__main__ import main
from solo_family.methods.grid.visualize import cell_masks, draw_grid
from solo_family.methods.mask_former.visualize import draw_bars, query_classes
from solo_family.methods.sparse_inst.visualize import MapReader, draw_responses, mean_responses
from solo_family.predictor.load import load_predictor

from ..coco_folder import CocoFolder, noise, rectangle, write_cfg
from ..conftest import eager_to_find, picture, tiny_cfg, tiny_model

SIZES = ["INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96, "INPUT.FORMAT", "BGR"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights of a model that finds objects, its config, and two pictures."""
    root = tmp_path_factory.mktemp("maps")
    model = eager_to_find(tiny_model("SparseInst", opts=SIZES))
    torch.save({"model": model.state_dict()}, root / "model.pth")
    opts = [*SIZES, "MODEL.WEIGHTS", str(root / "model.pth"), "MODEL.CLASS_NAMES", ["a", "b", "c"]]
    write_cfg(root / "config.yaml", tiny_cfg("SparseInst", opts=opts))
    (root / "pictures").mkdir()
    for index in range(2):
        image = picture(64, 96, seed=index)["image"].permute(1, 2, 0).numpy()
        cv2.imwrite(str(root / "pictures" / f"{index}.png"), image)
    return root


def run(place: Path, output: Path, *flags: Any) -> int:
    words = ["--config-file", place / "config.yaml", "--output", output, *flags]
    return main(["visualize-results", *map(str, words)])


def reader(place: Path) -> MapReader:
    opts = [*SIZES, "MODEL.WEIGHTS", str(place / "model.pth")]
    return MapReader(load_predictor(tiny_cfg("SparseInst", opts=opts)))


def read(place: Path, index: int) -> np.ndarray:
    return cv2.imread(str(place / "pictures" / f"{index}.png"))


def reference_maps(place: Path, image: np.ndarray) -> torch.Tensor:
    """The mean of each prediction's groups at stride 8, [N, 8, 12]."""
    model = tiny_model("SparseInst", opts=SIZES).eval()
    model.load_state_dict(torch.load(place / "model.pth")["model"])
    tensor = model.preprocess([torch.from_numpy(image.transpose(2, 0, 1).copy())]).tensor
    with torch.no_grad():
        features = model.backbone(tensor)
        levels = [features[name] for name in ("res3", "res4", "res5")]
        return model.decoder(model.encoder(levels)).activation_maps[0].mean(0)


def test_maps_beside_masks(place: Path, tmp_path: Path) -> None:
    inputs = place / "pictures"
    flags = ["--activation-maps", "--input", inputs, "--confidence-threshold", 0]
    assert run(place, tmp_path, *flags) == 0
    for index in range(2):
        drawn = cv2.imread(str(tmp_path / f"{index}.png"))
        found, _ = reader(place).instances(read(place, index), 0.0)
        assert len(found) > 0
        assert drawn.shape == (len(found) * 64, 2 * 96, 3)


def test_nothing_found_shows_the_picture(place: Path, tmp_path: Path) -> None:
    flags = ["--activation-maps", "--input", place / "pictures" / "0.png"]
    assert run(place, tmp_path, *flags, "--confidence-threshold", 1.1) == 0
    drawn, image = cv2.imread(str(tmp_path / "0.png")), read(place, 0)
    assert np.array_equal(drawn, np.concatenate([image, image], axis=1))


def test_each_instance_has_its_own_map(place: Path) -> None:
    image = read(place, 0)
    found, maps = reader(place).instances(image, 0.0)
    expected = F.interpolate(reference_maps(place, image)[None], size=(64, 96), mode="bilinear")[0]
    assert maps.shape == (len(found), 64, 96)
    for one in maps:
        differences = (expected - torch.from_numpy(one)).abs().amax((1, 2))
        assert differences.min() < 1e-4
    assert len({round(float(one.mean()), 6) for one in maps}) == len(maps)


def test_statistics_are_the_mean_over_pictures(place: Path) -> None:
    images = [read(place, 0), read(place, 1)]
    found = mean_responses(reader(place), images, [3, 0])
    references = [reference_maps(place, image)[[3, 0]] for image in images]
    expected = [
        F.interpolate(
            F.interpolate(maps[None], size=(64, 96), mode="bilinear"),
            size=(64, 64),
            mode="bilinear",
        )[0]
        for maps in references
    ]
    torch.testing.assert_close(found.float(), sum(expected) / 2, rtol=1e-4, atol=1e-4)
    assert mean_responses(reader(place), [], [0]).eq(0).all()


def test_the_verb_writes_statistics(place: Path, tmp_path: Path) -> None:
    flags = ["--activation-statistics", "--input", place / "pictures", "--maps", 0, 5, 9]
    assert run(place, tmp_path, *flags) == 0
    drawn = cv2.imread(str(tmp_path / "activation_statistics.png"))
    assert drawn.shape == (212, 3 * 192, 3)


def test_statistics_over_the_test_set(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = CocoFolder(tmp_path / "data", {1: "a", 2: "b", 3: "c"})
    for index in range(3):
        data.add(f"{index}.png", noise(48, 64, index), [rectangle(5, 5, 20, 20)])
    opts = ["--opts", "DATASETS.TEST", f"('{data.write()}',)"]
    assert run(place, tmp_path, "--activation-statistics", "--maps", 1, *opts) == 0
    assert "3 pictures" in capsys.readouterr().out
    assert (tmp_path / "activation_statistics.png").is_file()


def test_many_maps_are_drawn_in_rows() -> None:
    drawn = draw_responses(torch.rand(11, 64, 64), range(11))
    assert drawn.shape == (2 * 212, 8 * 192, 3)


def test_an_unreadable_picture_is_skipped(place: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"none")
    inputs = [tmp_path / "bad.png", place / "pictures" / "0.png", tmp_path / "missing.png"]
    assert run(place, tmp_path / "out", "--activation-maps", "--input", *inputs) == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["0.png"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--activation-maps"], "--activation-maps needs pictures: --input"),
        (["--activation-statistics"], "DATASETS.TEST is empty"),
        (["--activation-statistics", "--maps", "10", "--input", "{}"], "--maps has 10; .* 0 to 9"),
    ],
)
def test_mistakes_are_one_line(
    place: Path,
    tmp_path: Path,
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [flag.format(place / "pictures") for flag in flags]
    assert run(place, tmp_path, *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert re.search(message, error)


def test_other_methods_have_no_activation_maps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cfg(tmp_path / "config.yaml", tiny_cfg("SOLOv2"))
    assert run(tmp_path, tmp_path / "out", "--activation-maps", "--input", tmp_path) == 2
    assert re.search(r"META_ARCHITECTURE is 'SOLOv2'.*SparseInst", capsys.readouterr().err)


def test_one_picture_may_be_named_and_need_not_be_resized(place: Path, tmp_path: Path) -> None:
    flags = ["--activation-maps", "--input", place / "pictures" / "0.png"]
    flags += ["--confidence-threshold", 0, "--opts", "INPUT.MIN_SIZE_TEST", 0]
    assert run(place, tmp_path / "maps.png", *flags) == 0
    assert len(cv2.imread(str(tmp_path / "maps.png"))) > 64


def saved(root: Path, method: str, opts: list[Any]) -> Path:
    """Write a model that finds objects, its config and a picture; return the folder."""
    model = eager_to_find(tiny_model(method, opts=[*SIZES, *opts]))
    torch.save({"model": model.state_dict()}, root / "model.pth")
    names = ["MODEL.WEIGHTS", str(root / "model.pth"), "MODEL.CLASS_NAMES", ["a", "b", "c"]]
    write_cfg(root / "config.yaml", tiny_cfg(method, opts=[*SIZES, *opts, *names]))
    (root / "pictures").mkdir()
    image = picture(50, 90)["image"].permute(1, 2, 0).numpy()
    cv2.imwrite(str(root / "pictures" / "0.png"), image)
    return root


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("SOLO", marks=pytest.mark.slow),
        pytest.param("DecoupledSOLO", marks=pytest.mark.slow),
        "SOLOv2",
    ],
)
def test_the_masks_of_all_cells(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = saved(tmp_path, method, [])
    picture_file = place / "pictures" / "0.png"
    flags = ["--cells", "--input", picture_file, "--confidence-threshold", 0.3]
    assert run(place, tmp_path / "out.png", *flags) == 0
    drawn = cv2.imread(str(tmp_path / "out.png"))
    cfg = tiny_cfg(method, opts=[*SIZES, "MODEL.WEIGHTS", str(place / "model.pth")])
    predictor = load_predictor(cfg)
    masks, scores = cell_masks(predictor, cv2.imread(str(picture_file)))
    side = scores.shape[0]
    assert masks.shape[:2] == (side, side)
    assert f"{side} x {side} cells, {(scores >= 0.3).sum()} score 0.3" in capsys.readouterr().out
    red = (drawn == (0, 0, 255)).all(-1).any()
    assert red == (scores >= 0.3).any()
    assert drawn.shape[1] == side * 66 + 2
    # The model's own instances have masks that cells of some level predict; in a model of one
    # level they are these.
    model = predictor.model
    with torch.no_grad():
        tensor = torch.from_numpy(cv2.imread(str(picture_file)).transpose(2, 0, 1).copy())
        shown = predictor.aug.get_transform(tensor.permute(1, 2, 0).numpy()).apply_image(
            tensor.permute(1, 2, 0).numpy()
        )
        padded = model.preprocess([torch.from_numpy(shown.transpose(2, 0, 1).copy())]).tensor
        (outputs,) = model.run_head(model.backbone(padded), padded.shape[-2:]).images()
    expected = outputs.category_logits[-1].sigmoid().max(0).values.numpy()
    assert np.allclose(scores, expected, atol=1e-6)


def test_a_mask_is_at_its_cells_place() -> None:
    masks = np.zeros((2, 3, 8, 16), np.float32)
    masks[1, 2] = 1
    framed = np.zeros((2, 3), bool)
    framed[0, 1] = True
    drawn = draw_grid(masks, framed)
    assert drawn.shape == (2 * 34 + 2, 3 * 66 + 2, 3)
    assert (drawn[36:68, 134:198] == 255).all()
    assert (drawn[2:34, 2:64] == 0).all()
    assert (drawn[1, 68:130] == (0, 0, 255)).all()


def test_classes_per_query(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = saved(tmp_path, "MaskFormer", [])
    flags = ["--classes-per-query", "--input", place / "pictures", "--confidence-threshold", 0]
    assert run(place, tmp_path / "out", *flags) == 0
    cfg = tiny_cfg("MaskFormer", opts=[*SIZES, "MODEL.WEIGHTS", str(place / "model.pth")])
    classes, scores = query_classes(load_predictor(cfg), read(place, 0))
    assert (scores[classes == 3] == 0).all()
    assert f"of {len(classes)} queries" in capsys.readouterr().out
    drawn = cv2.imread(str(tmp_path / "out" / "classes_per_query.png"))
    assert drawn.shape == (320, 80 + 8 * len(classes), 3)


def test_bars_are_as_high_as_their_numbers() -> None:
    drawn = draw_bars(np.array([4, 2, 0]))
    coloured = (drawn == (160, 90, 40)).all(-1)
    heights = [coloured[:, 40 + 8 * index + 2].sum() for index in range(3)]
    assert heights == [241, 121, 1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cells", "--maps", "1"], "--maps is for --activation-statistics, not for --cells"),
        (["--cells", "--window", "1", "2"], "--window is for --score-maps, not for --cells"),
        (["--cells", "--num-images", "1"], "--num-images is for --ground-truth, not for --cells"),
        (["--ground-truth", "--maps", "1"], "--maps is for --activation-statistics, not for"),
    ],
)
def test_flags_that_nothing_reads_are_refused(
    words: list[str], said: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(place, tmp_path, *words) == 2
    assert said in capsys.readouterr().err
