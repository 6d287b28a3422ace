"""What is wrong between objects, images and datasets; what training loses; what can be fixed."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from solo_family.__main__ import main
from solo_family.data.checks import findings
from solo_family.data.checks.dataset_check import check_coco_dataset
from solo_family.data.checks.findings import Kind
from solo_family.data.loading.dataset_mapper import MaskDatasetMapper

from ...coco_folder import CocoFolder, noise, rectangle, run_cfg, train_records, write_cfg

Content = dict[str, Any]
HEIGHT, WIDTH = 320, 400


def good(root: Path) -> CocoFolder:
    folder = CocoFolder(root, {1: "box"})
    for index in range(12):
        box = rectangle(20 * index, 16 * index, 120, 100)
        folder.add(f"{index}.png", noise(HEIGHT, WIDTH, seed=index), [box])
    return folder


def shares(content: Content) -> None:
    for annotation in content["annotations"]:
        points = np.reshape(annotation["segmentation"], (-1, 2)) / (WIDTH, HEIGHT)
        annotation["segmentation"] = [points.ravel().tolist()]
        sides = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
        annotation["bbox"] = (np.array(annotation["bbox"]) / sides).tolist()
        annotation["area"] /= WIDTH * HEIGHT


def percent(content: Content) -> None:
    shares(content)
    for annotation in content["annotations"]:
        annotation["segmentation"] = (100 * np.array(annotation["segmentation"])).tolist()
        annotation["bbox"] = [100 * side for side in annotation["bbox"]]
        del annotation["area"]


def picture_twice(content: Content) -> None:
    """As merged exports have it: under two ids, once without its objects."""
    content["images"].append(content["images"][3] | {"id": 99})


def objects_twice(content: Content) -> None:
    again = [annotation | {"id": annotation["id"] + 100} for annotation in content["annotations"]]
    content["annotations"] += again


def corners(content: Content) -> None:
    for annotation in content["annotations"]:
        left, top, width, height = annotation["bbox"]
        annotation["bbox"] = [left, top, left + width, top + height]


def whole(content: Content) -> None:
    content["annotations"][2].update(
        rectangle(0, 0, WIDTH, HEIGHT), segmentation=[[0, 0, WIDTH, 0, WIDTH, HEIGHT, 0, HEIGHT]]
    )


# What is done, the kind that is found, how many of them, and whether --write-fixed fixes it.
RELATIONS: list[tuple[Callable[[Content], Any], Kind, int, bool]] = [
    (shares, findings.SHARES, 12, True),
    (percent, findings.PERCENT, 12, False),
    (picture_twice, findings.SAME_PICTURE, 1, False),
    (objects_twice, findings.SAME_OBJECT, 12, True),
    (corners, findings.BOX_OF_CORNERS, 11, True),  # the first begins at 0, 0
    (whole, findings.WHOLE_IMAGE, 1, False),
    (lambda c: [a.update(area=0) for a in c["annotations"]], findings.OTHER_AREA, 12, True),
    (lambda c: [a.update(id=7) for a in c["annotations"]], findings.ANNOTATION_ID, 1, True),
]


@pytest.mark.parametrize(("change", "kind", "count", "is_mended"), RELATIONS)
def test_a_relation_is_found_and_mended_where_that_is_safe(
    change: Callable[[Content], Any],
    kind: Kind,
    count: int,
    is_mended: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = good(tmp_path / "data")
    whole_content = json.loads(json.dumps(folder.content))
    change(folder.content)
    folder.write()
    images, fixed = str(folder.root / "images"), tmp_path / "fixed.json"
    words = ["check-data", "--annotations", str(folder.json), "--images", images]
    assert main([*words, "--write-fixed", str(fixed)]) == (1 if kind.remedy else 0)
    printed = capsys.readouterr().out
    assert f"{'problem' if kind.remedy else 'note'}: {count} {kind.title}\n" in printed
    assert ("--write-fixed does it" in kind.remedy) == is_mended
    if is_mended:
        check = check_coco_dataset(str(fixed), images)
        assert check.found == {}
        mended = json.loads(fixed.read_text())["annotations"]
        for annotation, original in zip(mended, whole_content["annotations"], strict=True):
            for key in ("bbox", "segmentation", "area"):
                assert np.allclose(annotation[key], original[key], atol=0.01), key


def test_a_good_dataset_is_written_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = good(tmp_path / "data")
    folder.write()
    words = ["check-data", "--annotations", str(folder.json), "--images", f"{folder.root}/images"]
    assert main([*words, "--write-fixed", str(tmp_path / "new.json")]) == 0
    assert "nothing could be fixed automatically" in capsys.readouterr().out
    assert json.loads((tmp_path / "new.json").read_text()) == folder.content
    assert main([*words, "--write-fixed", str(folder.json)]) == 2
    assert "would be overwritten" in capsys.readouterr().err


def test_training_and_validation_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = good(tmp_path / "train"), CocoFolder(tmp_path / "val", {1: "box", 2: "ring"})
    train.content["categories"].append({"id": 2, "name": "ring"})
    test.add("other.png", noise(60, 80, seed=77), [rectangle(5, 5, 30, 30, category_id=2)])
    picture = test.add("copy.png", noise(60, 80), [rectangle(5, 5, 30, 30)])
    shutil.copy(train.root / "images" / "4.png", picture)
    test.content["images"][1].update(height=HEIGHT, width=WIDTH)
    cfg = run_cfg(train.write(), tmp_path / "run", test=test.write())
    config = str(write_cfg(tmp_path / "config.yaml", cfg))
    assert main(["check-data", "--config-file", config]) == 1
    printed = capsys.readouterr().out
    assert "problem: 1 images that are both in training and in validation" in printed
    assert f"{train.root}/images/4.png = {picture}" in printed
    assert "classes that have objects in validation and none in training\n  ring\n" in printed
    # The same dataset for both is meant so.
    again = ["--opts", "DATASETS.TEST", str((train.name,))]
    assert main(["check-data", "--config-file", config, *again]) == 0


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({1: "box"}, "lacks ring"),
        ({1: "box", 2: "Ring"}, "lacks ring and has also Ring"),
        ({5: "ring", 9: "box"}, ""),
    ],
)
def test_lists_of_classes_are_compared_as_training_does(
    names: dict[int, str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = good(tmp_path / "train"), CocoFolder(tmp_path / "val", names)
    train.content["categories"].append({"id": 2, "name": "ring"})
    train.content["annotations"][0]["category_id"] = 2
    (box,) = (key for key, name in names.items() if name == "box")
    test.add("other.png", noise(60, 80, seed=77), [rectangle(5, 5, 30, 30, category_id=box)])
    cfg = run_cfg(train.write(), tmp_path / "run", test=test.write())
    written = str(write_cfg(tmp_path / "config.yaml", cfg))
    assert main(["check-data", "--config-file", written]) == bool(words)
    printed = capsys.readouterr().out
    said = "problem: 1 validation sets whose list of classes is not that of training\n"
    assert (said in printed) == bool(words)
    assert f"{test.name} {words}\n" in printed or not words
    # A model without classes has nothing to compare.
    agnostic = ["MODEL.META_ARCHITECTURE", "InstanceFCN", "MODEL.INSTANCE_FCN.CLASSIFY", "False"]
    assert main(["check-data", "--config-file", written, "--opts", *agnostic]) == 0


def test_training_without_any_object_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = good(tmp_path / "train")
    train.content["annotations"] = []
    cfg = run_cfg(train.write(), tmp_path / "run", "DATASETS.TEST", ())
    assert main(["check-data", "--config-file", str(write_cfg(tmp_path / "c.yaml", cfg))]) == 1
    printed = capsys.readouterr().out
    assert "training\n\nproblem: 1 training sets, which have no object together\n" in printed


def wires(root: Path, as_rle: bool) -> CocoFolder:
    """Lines of 2 pixels, of which a tenth of the size leaves hardly any."""
    folder = CocoFolder(root, {1: "wire"})
    objects = [rectangle(40, 40 + 44 * k, 600, 2) for k in range(20)]
    if as_rle:
        for thing in objects:
            left, top, width, height = (int(side) for side in thing["bbox"])
            mask = np.zeros((960, 1280), bool)
            mask[top : top + height, left : left + width] = True
            flat = np.concatenate([[0], mask.T.ravel(), [0]]).astype(np.int8)
            edges = [0, *np.flatnonzero(np.diff(flat)).tolist(), mask.size]
            thing["segmentation"] = {"size": [960, 1280], "counts": np.diff(edges).tolist()}
    folder.add("0.png", Image.new("RGB", (1280, 960)), objects)
    folder.write()
    return folder


@pytest.mark.parametrize("as_rle", [False, True])
def test_objects_that_training_shrinks_to_nothing_are_counted(
    as_rle: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = wires(tmp_path / "data", as_rle)
    opts = ("INPUT.MIN_SIZE_TRAIN", (96,), "INPUT.MAX_SIZE_TRAIN", 128)
    cfg = run_cfg(folder.name, tmp_path / "run", *opts)
    mapper = MaskDatasetMapper(cfg, is_train=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            seen = len(mapper(train_records(cfg)[0])["instances"])
    assert caplog.text.count("have no pixel left at 96 x 128") == 1
    assert seen < 20
    images = str(folder.root / "images")
    check = check_coco_dataset(
        str(folder.json), images, training_sizes=lambda size: [(96, 128), (960, 1280)]
    )
    assert len(check.found[findings.VANISHES]) == 20 - seen
    assert findings.VANISHES in check.problems
    # The remedy: larger images.
    check = check_coco_dataset(str(folder.json), images, training_sizes=lambda size: [size])
    assert check.found == {}


def test_label_images_are_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    noise(48, 64).save(tmp_path / "images" / "0.png")
    labels = np.zeros((48, 64), np.uint8)
    labels[5:9] = 2
    Image.fromarray(labels).save(tmp_path / "labels" / "0.png")
    for classes, status in (("a,b", 2), ("a,b,c", 0)):
        name = f"semantic:{tmp_path}/images:{tmp_path}/labels:{classes}"
        (tmp_path / "config.yaml").write_text(f'DATASETS:\n  TRAIN: ["{name}"]\n  TEST: []\n')
        assert main(["check-data", "--config-file", str(tmp_path / "config.yaml")]) == status
    assert "has label 2, but there are 2 classes" in capsys.readouterr().err
