"""The verbs that make two splits: `labelme` and `split-data`."""

import json
from pathlib import Path

import pytest

from solo_family.__main__ import main

from ..coco_folder import small_dataset
from ..data.formats.test_labelme import TRIANGLE, shape, write


def test_labelme_writes_both_splits_and_again_beside_the_images(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for index in range(5):
        write(tmp_path, str(index), [shape("cup", TRIANGLE)])
    for _ in range(2):  # the second time its own files are in the folder
        assert main(["labelme", str(tmp_path), "--output", str(tmp_path)]) == 0
        assert capsys.readouterr().out.splitlines() == [
            f"{tmp_path}/train.json: 4 images, 4 objects",
            f"{tmp_path}/val.json: 1 images, 1 objects",
            "classes: cup",
        ]


def test_a_shape_that_is_left_out_gives_status_1(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "a", [shape("cup", TRIANGLE), shape("dot", [[1, 1]], "point")])
    write(tmp_path, "b", [])
    assert main(["labelme", str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    assert "a.json: shape 1 (dot) is a point" in caplog.text


def test_split_data_shares_images_out(tmp_path: Path) -> None:
    folder = small_dataset(tmp_path / "data")
    output = tmp_path / "out"
    words = ["split-data", str(folder.json), "--output", str(output), "--val-every", "3"]
    assert main(words) == 0
    parts = {
        split: json.loads((output / f"{split}.json").read_text()) for split in ("train", "val")
    }
    names = {split: [i["file_name"] for i in part["images"]] for split, part in parts.items()}
    assert names == {"val": ["0.png", "3.png"], "train": ["1.png", "2.png", "4.png", "5.png"]}


def test_split_data_names_classes_of_one_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small_dataset(tmp_path / "data")
    content = json.loads(folder.json.read_text())
    content["categories"].append({"id": 90, "name": "ring"})
    first = next(i["id"] for i in content["images"] if i["file_name"] == "0.png")
    for annotation in content["annotations"]:
        if annotation["image_id"] == first:
            annotation["category_id"] = 90
    folder.json.write_text(json.dumps(content))
    words = ["split-data", str(folder.json), "--output", str(tmp_path / "out"), "--val-every"]
    assert main([*words, "3"]) == 0
    printed = capsys.readouterr().out
    assert "in val.json alone, so that it can't be learnt: ring. If" in printed
    assert "dog. If" not in printed
    assert main([*words, "6"]) == 0
    printed = capsys.readouterr().out
    assert "in val.json alone, so that it can't be learnt: ring. If" in printed
    assert "in train.json alone, so that it is not measured: cat, dog. If" in printed


def test_the_source_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = small_dataset(tmp_path)
    source = folder.json.rename(tmp_path / "train.json")
    before = source.read_text()
    assert main(["split-data", str(source), "--output", str(tmp_path)]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert source.read_text() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["labelme", "none"], "There is no folder none"),
        (["split-data", "none.json"], "none.json can't be read"),
    ],
)
def test_what_is_not_there_is_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([*words, "--output", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
