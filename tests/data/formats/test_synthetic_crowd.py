"""Crowds have exactly as many visible objects as asked for, in the manner of the shapes dataset."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_util

from solo_family.data.formats.synthetic_crowd import MIN_VISIBLE, SPACING, make_crowd
from solo_family.errors import DataError


def test_every_object_is_there_and_visible(tmp_path: Path) -> None:
    root = make_crowd(tmp_path / "crowd", {"train": [1, 7], "val": [300]}, seed=3)
    for name, numbers in (("train", [1, 7]), ("val", [300])):
        content = json.loads((root / f"annotations/{name}.json").read_text())
        for image, number in zip(content["images"], numbers, strict=True):
            picture = cv2.imread(str(root / name / image["file_name"]))
            assert picture is not None
            assert picture.shape == (image["height"], image["width"], 3)
            own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
            masks = np.array([mask_util.decode(a["segmentation"]) for a in own])
            assert len(own) == number
            assert masks.sum(0).max() == 1
            assert masks.sum((1, 2)).min() >= MIN_VISIBLE
            # As dense in images of any number, but for the places that stay empty.
            assert (
                number * SPACING**2
                <= image["height"] * image["width"]
                <= (number + 3) * 2**10 + 2**12
            )


def test_the_seed_decides(tmp_path: Path) -> None:
    roots = [
        make_crowd(tmp_path / f"{n}", {"a": [20]}, seed=seed) for n, seed in enumerate((1, 1, 2))
    ]
    files = [(root / "a/0001_20_objects.jpg").read_bytes() for root in roots]
    assert files[0] == files[1] != files[2]
    assert make_crowd(roots[0], {"a": [20]}) == roots[0]


def test_no_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 1 object"):
        make_crowd(tmp_path / "crowd", {"val": [5, 0]})
    assert not (tmp_path / "crowd").exists()
