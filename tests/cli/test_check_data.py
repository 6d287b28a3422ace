"""What `check-data` prints, and how objects fall on the levels of a grid."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from solo_family.__main__ import main
from solo_family.cli.object_sizes import table_of_areas, table_of_levels, training_sizes
from solo_family.data.checks.dataset_check import DatasetCheck

from ..coco_folder import CocoFolder, noise, rectangle, run_cfg, small_dataset, write_cfg
from ..conftest import tiny_cfg
from ..data.segments import HEIGHT, WIDTH, write_semantic


def check(folder: CocoFolder, *words: str) -> int:
    images = str(folder.root / "images")
    return main(["check-data", "--annotations", str(folder.json), "--images", images, *words])


def test_a_good_dataset_has_status_0(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert check(small_dataset(tmp_path / "data")) == 0
    output = capsys.readouterr().out
    assert "6 images, 6 annotations, 2 categories" in output
    assert "6 objects to learn" in output
    assert re.search(r"^small +0 to 32 +6$", output, re.M)
    assert output.endswith("no problems\n\n")


def test_problems_are_named_explained_and_have_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = small_dataset(tmp_path / "data", images=8)
    for annotation in folder.content["annotations"][:7]:
        annotation["segmentation"] = []
    folder.write()
    assert check(folder) == 1
    output = capsys.readouterr().out
    assert "problem: 7 objects without a mask" in output
    assert "annotation 1 in 0.png; annotation 2 in 1.png" in output
    assert "annotation 5 in 4.png; and 2 more\n" in output
    assert "drop these objects. Draw their outlines" in output
    assert "1 type of problem\n" in output
    assert "1 objects to learn" in output


def test_all_datasets_of_a_config_are_checked_also_after_one_that_cant_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    good, broken = small_dataset(tmp_path / "good"), small_dataset(tmp_path / "broken")
    broken.json.write_text("{")
    cfg = run_cfg(broken.name, tmp_path / "run", test=good.name)
    words = ["check-data", "--config-file", str(write_cfg(tmp_path / "config.yaml", cfg))]
    assert main(words) == 2
    printed = capsys.readouterr()
    assert re.match(r"error: .*broken/instances\.json is not JSON", printed.err)
    assert printed.out.startswith(good.name)
    assert "at 48 px" in printed.out
    assert main([*words, "--opts", "DATASETS.TRAIN", str((good.name,))]) == 0
    assert capsys.readouterr().out.count(good.name) == 1


def test_a_config_gives_the_grid_of_one_json(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = small_dataset(tmp_path / "data")
    cfg = run_cfg("", tmp_path / "run", "DATASETS.TRAIN", ())
    config = str(write_cfg(tmp_path / "config.yaml", cfg))
    ranges = "((1, 9), (9, 10), (10, 11), (11, 12), (12, 13))"
    opts = ("--opts", "MODEL.SOLOV2.FPN_SCALE_RANGES", ranges)
    assert check(folder, "--config-file", config, *opts) == 0
    output = capsys.readouterr().out
    assert re.search(r"^on no level +6$", output, re.M)
    assert "change FPN_SCALE_RANGES" in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Give --config-file FILE, or --annotations"),
        (["--images", "x"], "go together"),
        (["--annotations", "x"], "go together"),
        (["--annotations", "none.json", "--images", "x"], "none.json can't be read"),
    ],
)
def test_what_is_missing_is_said(
    words: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["check-data", *words]) == 2
    assert said in capsys.readouterr().err


def objects(*boxes: Sequence[float], size: tuple[int, int] = (100, 200)) -> DatasetCheck:
    check = DatasetCheck(num_images=1, num_annotations=len(boxes), num_categories=1)
    check.boxes += map(list, boxes)
    check.image_sizes += [size] * len(boxes)
    check.areas += [int((x1 - x0) * (y1 - y0)) for x0, y0, x1, y1 in boxes]
    return check


def test_objects_are_counted_on_the_levels_at_both_ends_of_the_training_sizes() -> None:
    ranges = ((1, 20), (15, 40), (30, 80), (80, 81), (82, 83))
    cfg = tiny_cfg(opts=["MODEL.SOLOV2.FPN_SCALE_RANGES", ranges])
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (200, 100, 150), 400
    # 10 x 10, 8 x 32 (scale 16), 90 x 90; in images of 100 x 200, and twice as large.
    check = objects([0, 0, 10, 10], [0, 0, 8, 32], [5, 5, 95, 95])
    header, rows = table_of_levels(cfg, check)
    assert header == ("level", "S", "object size, px", "at 100 px", "at 200 px")
    assert rows == [
        ("p2", "12", "1 to 20", "2", "1"),
        ("p3", "10", "15 to 40", "1", "2"),
        ("p4", "8", "30 to 80", "0", "1"),
        ("p5", "6", "80 to 81", "0", "0"),
        ("p6", "4", "82 to 83", "0", "0"),
        ("on several levels", "", "", "1", "2"),
        ("on no level", "", "", "1", "1"),
    ]


def test_the_longer_edge_limits_the_training_size() -> None:
    cfg = tiny_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (300,), 400
    (size,) = training_sizes(cfg, [(100, 200)]).values()
    assert size.tolist() == [[200, 400]]
    cfg.INPUT.MIN_SIZE_TRAIN = (0,)  # as they are
    (size,) = training_sizes(cfg, [(100, 200)]).values()
    assert size.tolist() == [[100, 200]]


def test_windows_are_enlarged_as_training_does(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Points of 2 pixels, which would vanish if the whole image were resized."""
    folder = CocoFolder(tmp_path / "data", {1: "dot"})
    dots = [rectangle(40 * k, 30 * k, 2, 2) for k in range(20)]
    folder.add("0.png", noise(600, 800), dots)
    opts = ("INPUT.MIN_SIZE_TRAIN", (128,), "INPUT.MAX_SIZE_TRAIN", 128)
    cfg = run_cfg(folder.write(), tmp_path / "run", *opts, "DATASETS.TEST", ())
    words = ["check-data", "--config-file", str(write_cfg(tmp_path / "config.yaml", cfg))]
    assert main(words) == 1
    assert "objects that have no pixel left" in capsys.readouterr().out
    assert main([*words, "--opts", "INPUT.CROP.AROUND_OBJECTS", "(32, 64)"]) == 0
    assert "windows at 128 px: 0 objects are smaller than the mask" in capsys.readouterr().out
    cfg.INPUT.CROP.AROUND_OBJECTS = (32, 64)
    (sizes,) = training_sizes(cfg, [(600, 800), (16, 800)]).values()
    # Twice as large as the windows, 32 x 64 and 16 x 64.
    assert sizes.tolist() == [[1200, 1600], [32, 1600]]


def test_jitter_has_its_own_sizes() -> None:
    cfg = tiny_cfg(opts=["INPUT.LSJ.ENABLED", True, "INPUT.LSJ.IMAGE_SIZE", 400])
    sizes = training_sizes(cfg, [(100, 200), (50, 10)])
    assert list(sizes) == ["at 400 px x 0.1", "at 400 px x 2"]
    small, large = sizes.values()
    assert torch.allclose(small, torch.tensor([[20.0, 40.0], [40.0, 8.0]]))
    assert torch.allclose(large, 20 * small)


def test_without_a_grid_objects_are_counted_by_area() -> None:
    boxes = ([0, 0, 31, 33], [0, 0, 32, 32], [0, 0, 96, 96])
    _, rows = table_of_areas(objects(*boxes))
    assert [(name, count) for name, _, count in rows] == [
        ("small", "1"),
        ("medium", "1"),
        ("large", "1"),
    ]


def test_a_dataset_without_objects_has_tables_too() -> None:
    _, rows = table_of_levels(tiny_cfg(), objects())
    assert {row[-1] for row in rows} == {"0"}
    assert {row[-1] for row in table_of_areas(objects())[1]} == {"0"}


def test_label_pictures_are_looked_into_completely(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train, val = (write_semantic(tmp_path / side) for side in ("train", "val"))
    np.save(tmp_path / "val" / "images" / "1.npy", np.zeros((HEIGHT, WIDTH, 5), np.uint8))
    (tmp_path / "val" / "images" / "1.png").unlink()
    cfg = run_cfg(train, tmp_path / "run", test=val)
    words = ["check-data", "--config-file", str(write_cfg(tmp_path / "my.yaml", cfg))]
    assert main(words) == 1
    output = capsys.readouterr().out
    assert "3 images, 3 classes" in output
    assert "3 of 3 classes occur" in output
    assert "problem: 1 images of another number of channels than INPUT.FORMAT" in output
    assert "problem: 2 images that are both in training and in validation" in output
    Image.fromarray(np.full((HEIGHT, WIDTH), 7, np.uint8)).save(tmp_path / "val/labels/2.png")
    assert main(words) == 2
    assert "labels/2.png has label 7" in capsys.readouterr().err
