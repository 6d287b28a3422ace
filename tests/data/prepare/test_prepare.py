"""Label files from miniature originals: every pixel compared, resumed, refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util
from scipy.io import savemat

from solo_family.__main__ import main
from solo_family.cli.prepare_data import DATASETS

from ..segments import write_panoptic

RNG = np.random.default_rng(0)


def prepare(name: str, root: Path) -> int:
    return main(["prepare-data", name, "--root", str(root)])


def test_ade20k(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = {}
    for split in ("training", "validation"):
        folder = tmp_path / "ADEChallengeData2016" / "annotations" / split
        folder.mkdir(parents=True)
        for index in range(2):
            labels[split, index] = RNG.integers(0, 151, (6, 9)).astype(np.uint8)
            Image.fromarray(labels[split, index]).save(folder / f"{index}.png")
    assert prepare("ade20k", tmp_path) == 0
    assert "training: 2 images, 2 of them written now" in capsys.readouterr().out
    made = tmp_path / "ADEChallengeData2016" / "annotations_detectron2"
    for (split, index), original in labels.items():
        expected = [[255 if value == 0 else value - 1 for value in row] for row in original]
        assert np.asarray(Image.open(made / split / f"{index}.png")).tolist() == expected
    # The second time only what is missing is made.
    kept = made / "training" / "0.png"
    kept.write_bytes(b"kept")
    (made / "training" / "1.png").unlink()
    assert prepare("ade20k", tmp_path) == 0
    assert kept.read_bytes() == b"kept"
    printed = capsys.readouterr().out
    assert "training: 2 images, 1 of them written now" in printed
    assert "the complete dataset has 20210" in printed


def stuff(root: Path) -> tuple[Path, dict[str, np.ndarray]]:
    folder = root / "coco" / "coco_stuff_10k"
    for part in ("images", "annotations", "imageLists"):
        (folder / part).mkdir(parents=True)
    without = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}
    ids = np.array([i for i in range(183) if i not in without])
    names = np.array([f"name {i}" for i in range(1, 183)], dtype=object)
    labels = {}
    for split, image in (("train", "a"), ("test", "b")):
        (folder / "imageLists" / f"{split}.txt").write_text(f"{image}\n")
        labels[image] = RNG.choice(ids, (5, 40)).astype(np.uint16)
        savemat(folder / "annotations" / f"{image}.mat", {"S": labels[image], "names": names})
        (folder / "images" / f"{image}.jpg").write_bytes(image.encode())
    return folder, labels


def test_coco_stuff(tmp_path: Path) -> None:
    folder, labels = stuff(tmp_path)
    assert prepare("coco-stuff-10k", tmp_path) == 0
    names = (folder / "classes_171.txt").read_text().splitlines()
    assert len(names) == 171
    for split, image in (("train", "a"), ("test", "b")):
        made = np.asarray(Image.open(folder / "annotations_detectron2" / split / f"{image}.png"))
        for row, column in np.ndindex(made.shape):
            original = labels[image][row, column]
            if original == 0:
                assert made[row, column] == 255
            else:
                assert names[made[row, column]] == f"name {original}"
        copy = folder / "images_detectron2" / split / f"{image}.jpg"
        assert copy.read_bytes() == image.encode()


def test_a_label_that_stuff_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, labels = stuff(tmp_path)
    savemat(folder / "annotations" / "a.mat", {"S": labels["a"] * 0 + 12, "names": np.empty(0)})
    assert prepare("coco-stuff-10k", tmp_path) == 2
    assert "a.mat has a label that is none of COCO-Stuff's" in capsys.readouterr().err
    assert not list((folder / "annotations_detectron2" / "train").iterdir())


def test_voc_sbd(tmp_path: Path) -> None:
    sets = tmp_path / "VOC2012" / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    # SBD has no masks of 2007_3.
    (sets / "train.txt").write_text("2007_1\n2007_3\n")
    (sets / "val.txt").write_text("2007_2\n")
    masks = {}
    for name in ("2007_1", "2007_2"):
        for part in ("inst", "img"):
            (tmp_path / "SBD" / part).mkdir(parents=True, exist_ok=True)
        masks[name] = RNG.integers(0, 3, (7, 8)).astype(np.uint8)
        content = {"Segmentation": masks[name], "Categories": np.array([[15], [7]], np.uint8)}
        savemat(tmp_path / "SBD" / "inst" / f"{name}.mat", {"GTinst": content})
        Image.fromarray(np.zeros((7, 8, 3), np.uint8)).save(
            tmp_path / "SBD" / "img" / f"{name}.jpg"
        )
    assert prepare("voc-sbd", tmp_path) == 0
    for split, name in (("train", "2007_1"), ("val", "2007_2")):
        made = json.loads((tmp_path / "SBD" / f"instances_{split}.json").read_text())
        assert [image["file_name"] for image in made["images"]] == [f"{name}.jpg"]
        assert [a["category_id"] for a in made["annotations"]] == [15, 7]
        assert made["categories"][14]["name"] == "person"
        for index, annotation in enumerate(made["annotations"], 1):
            mask = mask_util.decode(annotation["segmentation"])
            np.testing.assert_array_equal(mask, masks[name] == index)
            assert annotation["area"] == (masks[name] == index).sum()


def test_the_first_images_of_coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solo_family.data.prepare.coco_2014.FIRST", 2)
    folder = tmp_path / "coco" / "annotations"
    folder.mkdir(parents=True)
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 4, "width": 4} for i in (9, 3, 5, 1)]
    annotations = [
        {
            **{"id": n, "image_id": i, "category_id": 1, "iscrowd": 0, "area": 4},
            **{"bbox": [0, 0, 2, 2], "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]},
        }
        for n, i in enumerate((9, 3, 1, 1), 1)
    ]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}],
    }
    (folder / "instances_val2014.json").write_text(json.dumps(content))
    assert prepare("coco-2014-first-5000", tmp_path) == 0
    made = json.loads((folder / "instances_val2014_first5000.json").read_text())
    assert [image["id"] for image in made["images"]] == [1, 3]
    assert sorted(a["image_id"] for a in made["annotations"]) == [1, 1, 3]


def test_coco_panoptic_as_semantic_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = tmp_path / "coco"
    for split in ("train2017", "val2017"):
        _, ids, segments = write_panoptic(tmp_path / split)
        (coco / "annotations").mkdir(parents=True, exist_ok=True)
        (tmp_path / split / "panoptic").rename(coco / f"panoptic_{split}")
        (tmp_path / split / "panoptic.json").rename(coco / "annotations" / f"panoptic_{split}.json")
    assert prepare("coco-panoptic-semseg", tmp_path) == 0
    assert "val2017: 3 images, 3 of them written now" in capsys.readouterr().out
    # Two things and one stuff, in the order of their ids.
    assert (coco / "panoptic_semseg_classes.txt").read_text() == "cat\ndog\nsky\n"
    order = [3, 5, 9]
    for index, (original, listed) in enumerate(zip(ids, segments, strict=True)):
        expected = np.full(original.shape, 255)
        for segment in listed:
            expected[original == segment["id"]] = order.index(segment["category_id"])
        made = np.asarray(Image.open(coco / "panoptic_semseg_val2017" / f"{index}.png"))
        np.testing.assert_array_equal(made, expected)
        assert made.dtype == np.uint8
    (coco / "panoptic_semseg_val2017" / "1.png").unlink()
    assert prepare("coco-panoptic-semseg", tmp_path) == 0
    assert "val2017: 3 images, 1 of them written now" in capsys.readouterr().out


def test_only_ade20k_full_has_a_choice_of_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare-data", "ade20k", "--root", str(tmp_path), "--classes", "a.txt"]) == 2
    assert "--classes is for ade20k-full" in capsys.readouterr().err


@pytest.mark.parametrize("name", DATASETS)
def test_missing_originals_are_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(name, tmp_path) == 2
    error = capsys.readouterr().err
    assert f"There is no {tmp_path}" in error
    assert "unpack" in error
    assert error.count("\n") == 1
