"""The shapes dataset with stuff, judged from its files alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.data.formats.synthetic import make_shapes
from solo_family.errors import DataError

SIZES: dict[str, Any] = {"num_train": 6, "num_val": 3, "image_size": (96, 128)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", stuff=True, **SIZES)


def panoptic_ids(root: Path, name: str, split: str) -> np.ndarray:
    colours = np.asarray(Image.open(root / "panoptic" / split / name)).astype(int)
    return colours[..., 0] + 256 * colours[..., 1] + 256**2 * colours[..., 2]


@pytest.mark.parametrize("split", ["train", "val"])
def test_panoptic_semantic_and_instance_labels_agree(root: Path, split: str) -> None:
    panoptic = json.loads((root / "annotations" / f"panoptic_{split}.json").read_text())
    instances = json.loads((root / "annotations" / f"{split}.json").read_text())
    names = (root / "classes.txt").read_text().split()
    assert names == [category["name"] for category in panoptic["categories"]]
    assert names[5:] == ["plain", "stripes", "checks"]
    assert [category["isthing"] for category in panoptic["categories"]] == [1] * 5 + [0] * 3
    assert len(panoptic["annotations"]) == SIZES[f"num_{split}"]
    stuff_seen = set()
    for image, annotation in zip(panoptic["images"], panoptic["annotations"]):
        assert Image.open(root / split / image["file_name"]).size == (128, 96)
        ids = panoptic_ids(root, annotation["file_name"], split)
        labels = np.asarray(Image.open(root / "labels" / split / annotation["file_name"]))
        segments = {segment["id"]: segment for segment in annotation["segments_info"]}
        assert set(np.unique(ids)) == set(segments)
        for identity, segment in segments.items():
            inside = ids == identity
            assert segment["area"] == inside.sum()
            assert (labels[inside] == segment["category_id"] - 1).all()
            stuff_seen |= {segment["category_id"]} - {1, 2, 3, 4, 5}
        masks = [
            mask_util.decode(a["segmentation"]).astype(bool)
            for a in instances["annotations"]
            if a["image_id"] == image["id"]
        ]
        things = [ids == i for i, segment in segments.items() if segment["category_id"] <= 5]
        assert len(masks) == len(things)
        for mask, thing in zip(masks, things):
            np.testing.assert_array_equal(mask, thing)
    assert len(stuff_seen) >= 2


def test_without_stuff_there_are_no_such_files(tmp_path: Path) -> None:
    plain = make_shapes(tmp_path / "shapes", **SIZES)
    assert sorted(path.name for path in plain.iterdir()) == ["annotations", "train", "val"]
    with pytest.raises(DataError, match="holds shapes made with"):
        make_shapes(tmp_path / "shapes", stuff=True, **SIZES)


def test_the_same_seed_gives_the_same_files(root: Path, tmp_path: Path) -> None:
    again = make_shapes(tmp_path / "again", stuff=True, **SIZES)
    for path in root.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(root)).read_bytes()
