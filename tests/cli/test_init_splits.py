"""What `init` does with and without a validation set."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.data.formats.register import check_datasets
from solo_family.data.formats.segmentation import to_rle

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


def test_a_validation_set_without_objects_is_told(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = data.split(":")
    content = json.loads(Path(path).read_text())
    (tmp_path / "val.json").write_text(json.dumps(content | {"annotations": []}))
    shutil.copytree(folder, tmp_path / "val")
    for number, image in enumerate(sorted((tmp_path / "val").iterdir())):
        Image.new("RGB", (96, 64), (number, 9, 9)).save(image)
    words = ("--train", data, "--val", f"{tmp_path / 'val.json'}:{tmp_path / 'val'}", "--anyway")
    assert init(tmp_path, *words, *FAST) == 0
    assert "no validation image has an object, so that there will be no AP" in (
        capsys.readouterr().out
    )


def objects(name: str) -> dict[str, list[tuple[Any, ...]]]:
    """Returns class, box and number of pixels of each object, by the image's name."""
    check_datasets([name])
    classes = MetadataCatalog.get(name).thing_classes
    found = {}
    for record in DatasetCatalog.get(name):
        size = record["height"], record["width"]
        found[Path(record["file_name"]).name] = [
            (
                classes[one["category_id"]],
                BoxMode.convert(one["bbox"], one["bbox_mode"], BoxMode.XYWH_ABS),
                int(mask_util.area(to_rle(one["segmentation"], size))),
            )
            for one in record["annotations"]
        ]
    return found


def yolo(root: Path) -> str:
    """Eight images in the splits of ultralytics; those of `val` are used only if they are named."""
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for number in range(8):
            name = f"{chr(97 + number)}{split}"
            shade = (90 if split == "train" else 160, number, 9)
            Image.new("RGB", (96, 64), shade).save(root / "images" / split / f"{name}.png")
            line = f"{number % 2} 0.1 0.1 0.{number + 2} 0.1 0.6 0.8 0.1 0.8\n"
            (root / "labels" / split / f"{name}.txt").write_text(line * (number != 3))
    (root / "data.yaml").write_text("names: [cup, jug]\ntrain: images/train\nval: images/val\n")
    return f"yolo:{root}"


def masks(root: Path) -> str:
    for folder in ("images/a", "masks/a", "images/b", "masks/b"):
        (root / folder).mkdir(parents=True)
    for number in range(8):
        place = "ab"[number % 2]
        values = np.zeros((64, 96), np.uint16)
        values[4:20, 6 : 30 + number], values[30:50, 40:60] = 300, 65535
        Image.fromarray(values).save(root / "masks" / place / f"{chr(97 + number)}.png")
        picture = Image.new("RGB", (96, 64), (number, 9, 9))
        picture.save(root / "images" / place / f"{chr(97 + number)}.png")
    return f"masks:{root}/images:{root}/masks"


@pytest.mark.parametrize("write", [yolo, masks])
@pytest.mark.parametrize("relative", [False, True])
def test_other_forms_are_split_without_a_change(
    write: Callable[[Path], str], relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = write(tmp_path / "data")
    name = whole.replace(f"{tmp_path}/", "") if relative else whole
    assert init(tmp_path, "--train", name, *FAST) == 0
    cfg = config_of(tmp_path)
    (train,), (val,) = cfg.DATASETS.TRAIN, cfg.DATASETS.TEST
    assert (str(tmp_path / "data") in train.rpartition(":")[2]) != relative
    parts = objects(train), objects(val)
    assert [len(part) for part in parts] == [7, 1]
    assert parts[0] | parts[1] == objects(whole)


def test_other_forms_may_have_their_own_validation(tmp_path: Path) -> None:
    name = yolo(tmp_path / "yolo")
    assert init(tmp_path, "--train", f"{name}:train", "--val", f"{name}:val", *FAST) == 0
    assert (f"{name}:train",) == config_of(tmp_path).DATASETS.TRAIN
    assert not (tmp_path / "new" / "my_data").exists()
