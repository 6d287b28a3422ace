"""What `init` does with and without a validation set."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from .test_init import FAST, config_of, data, init

__all__ = ["data"]  # the fixture


def test_a_validation_set_without_a_class_is_refused_before_it_is_timed(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = data.split(":")
    content = json.loads(Path(path).read_text())
    content["categories"] = [{"id": 3, "name": "dog"}]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] == 3]
    (tmp_path / "val.json").write_text(json.dumps(content))
    shutil.copytree(folder, tmp_path / "val")
    for number, image in enumerate(sorted((tmp_path / "val").iterdir())):
        Image.new("RGB", (96, 64), (number, 9, 9)).save(image)
    words = ("--train", data, "--val", f"{tmp_path / 'val.json'}:{tmp_path / 'val'}", *FAST)
    assert init(tmp_path, *words) == 2
    error = capsys.readouterr().err
    assert "validation sets whose list of classes is not that of training" in error
    assert "lacks cat" in error
    # A method without classes does not mind.
    assert init(tmp_path, *words, "--method", "instancefcn") == 0


def test_two_images_that_training_needs_are_not_split(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(data.partition(":")[0])
    content = json.loads(path.read_text())
    content["images"] = content["images"][:2]
    content["annotations"] = [content["annotations"][place] for place in (0, 3)]
    path.write_text(json.dumps(content))
    assert init(tmp_path, "--train", data, *FAST) == 0
    assert config_of(tmp_path).DATASETS.TEST == ()
    assert "training needs all images: none is left to validate on" in capsys.readouterr().out


def test_other_formats_need_their_own_validation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "yolo"
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        shade = 90 if split == "train" else 160
        Image.new("RGB", (96, 64), (shade, 9, 9)).save(root / "images" / split / "a.png")
        label = root / "labels" / split / "a.txt"
        label.write_text("0 0.1 0.1 0.6 0.1 0.6 0.8 0.1 0.8\n")
    (root / "data.yaml").write_text("names: [cup]\ntrain: images/train\nval: images/val\n")
    assert init(tmp_path, "--train", f"yolo:{root}:train", *FAST) == 2
    assert "can't be split: it is no json in COCO's format" in capsys.readouterr().err
    words = ("--train", f"yolo:{root}:train", "--val", f"yolo:{root}:val")
    assert init(tmp_path, *words, *FAST) == 0
    assert (f"yolo:{root}:train",) == config_of(tmp_path).DATASETS.TRAIN
