"""Label images that can't teach what their names say are refused before a training."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from solo_family.__main__ import main as solo_family
from solo_family.data.formats.register import check_datasets
from solo_family.errors import DataError

from ...coco_folder import noise
from ..segments import write_panoptic


def dataset(root: Path, values: tuple[int, ...]) -> str:
    """Two pictures; the values of their label images are columns side by side."""
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    labels = np.tile(np.repeat(np.array(values, np.uint8), 12), (48, 1))
    for index in range(2):
        noise(48, labels.shape[1], index).save(root / "images" / f"{index}.png")
        Image.fromarray(labels).save(root / "labels" / f"{index}.png")
    return f"semantic:{root}/images:{root}/labels"


@pytest.mark.parametrize("end", [":0", ""])
def test_labels_that_count_from_1_and_the_advice(tmp_path: Path, end: str) -> None:
    name = dataset(tmp_path / "data", (0, 1, 2))
    with pytest.raises(DataError, match="has label 2, but there are 2 classes, 0 to 1") as error:
        check_datasets([f"{name}:red,blue{end}"])
    advice = str(error.value).rpartition(": ")[2].rstrip(".")
    assert advice == "semantic:IMAGE_DIR:LABEL_DIR:unlabelled,CLASSES:0"
    check_datasets([f"{name}:unlabelled,red,blue:0"])
    advice = "pixels without a class, ignore it: semantic:IMAGE_DIR:LABEL_DIR:CLASSES:2. "
    assert (advice in str(error.value)) == (not end)
    check_datasets([f"{name}:red,blue:2"])


def test_black_and_white_is_one_class_and_nothing(tmp_path: Path) -> None:
    name = dataset(tmp_path / "data", (0, 255))
    with pytest.raises(DataError, match="0 and 255, and 255 is ignored, so no pixel is crack"):
        check_datasets([f"{name}:wall,crack"])
    # As the message says, both ways.
    check_datasets([name.replace("semantic:", "masks:")])
    for path in (tmp_path / "data" / "labels").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 255).save(path)
    check_datasets([f"{name}:wall,crack"])


@pytest.mark.parametrize("value", [-1, 0.5, np.nan, np.inf], ids=str)
def test_values_that_are_no_whole_numbers_are_refused(tmp_path: Path, value: float) -> None:
    name = dataset(tmp_path, (0, 1))
    path = tmp_path / "labels" / "0.png"
    labels = np.asarray(Image.open(path)).astype(np.int32 if value == -1 else np.float32)
    path.unlink()
    Image.fromarray(labels).save(path.with_suffix(".tif"))
    check_datasets([f"{name}:wall,crack"])
    labels[3, 4] = value
    Image.fromarray(labels).save(path.with_suffix(".tif"))
    with pytest.raises(DataError, match=r"0\.tif has label .*, but labels are whole numbers from"):
        check_datasets([f"{name}:wall,crack"])


@pytest.mark.parametrize("kind", ["semantic", "masks", "panoptic"])
def test_a_jpeg_of_labels_is_refused(tmp_path: Path, kind: str) -> None:
    """Its compression makes other labels, which may be classes or objects, too."""
    if kind == "panoptic":
        name, path = write_panoptic(tmp_path)[0], tmp_path / "panoptic" / "0.png"
    else:
        name = dataset(tmp_path, (0, 1)) + ":wall,crack"
        name = name if kind == "semantic" else name.removesuffix(",crack").replace("semantic", kind)
        path = tmp_path / "labels" / "0.png"
    check_datasets([name])
    Image.open(path).save(path, format="JPEG")
    with pytest.raises(DataError, match=r"0\.png is a JPEG, whose compression changes labels"):
        check_datasets([name])


def test_labels_of_several_pages_are_refused(tmp_path: Path) -> None:
    name = dataset(tmp_path, (0, 1)) + ":wall,crack"
    path = tmp_path / "labels" / "0.tif"
    with Image.open(path.with_suffix(".png")) as picture:
        first, second = picture.copy(), picture.copy()
    path.with_suffix(".png").unlink()
    second.encoderinfo = {"tiffinfo": {254: 1}}
    first.save(path, save_all=True, append_images=[second])  # a smaller copy, for viewers
    check_datasets([name])
    del second.encoderinfo
    first.save(path, save_all=True, append_images=[second])
    with pytest.raises(DataError, match=r"0\.tif has 2 pages, but labels are one picture"):
        check_datasets([name])


def test_labels_of_another_size_are_refused_before_an_evaluation(tmp_path: Path) -> None:
    name = dataset(tmp_path, (0, 1)) + ":wall,crack"
    path = tmp_path / "labels" / "1.png"
    Image.open(path).resize((7, 9), Image.Resampling.NEAREST).save(path)
    with pytest.raises(DataError, match=r"1\.png is 7x9 pixels, but its image .* is 24x48\. Exp"):
        check_datasets([name])


def list_a_ghost(content: dict[str, Any]) -> None:
    ghost = {"id": 12345, "category_id": 3, "iscrowd": 0, "area": 25}
    content["annotations"][1]["segments_info"].append(ghost)


def forget_one(content: dict[str, Any]) -> None:
    content["annotations"][1]["segments_info"].pop(1)


def repeat_one(content: dict[str, Any]) -> None:
    content["annotations"].append(content["annotations"][1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: None, ()),
        (list_a_ghost, ("1 segments of the json have no pixel", "12345 of", "panoptic/1.png.")),
        (forget_one, ("1 segments of the PNGs are not in the json", "255 of", "panoptic/1.png.")),
        (repeat_one, ("1 images have more than one entry", "images/1.png.")),
    ],
)
def test_a_panoptic_json_that_contradicts_its_pictures(
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    words: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = write_panoptic(tmp_path / "data")[0]
    path = tmp_path / "data" / "panoptic.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        check_datasets([name])
    assert len(caplog.messages) == bool(words), caplog.messages
    config = tmp_path / "config.yaml"
    config.write_text(f"DATASETS:\n  TRAIN: ('{name}',)\n  TEST: ()\n")
    base = Path(__file__).parents[3] / "configs" / "quickstart" / "mask_former_panoptic.yaml"
    config.write_text(f"_BASE_: {base}\n{config.read_text()}")
    assert solo_family(["check-data", "--config-file", str(config)]) == bool(words)
    printed = capsys.readouterr().out
    assert ("problem: " in printed) == bool(words)
    for word in words:
        assert word in caplog.text
        assert word in printed
