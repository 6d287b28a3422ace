"""What a recipe knows of a dataset."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from solo_family.errors import DataError
from solo_family.recipe.data import in_place, read_dataset
from solo_family.recipe.fingerprint import Fingerprint, measure

from ..data.coco import polygon, write_dataset


def annotation(image: int, category: int, **other: Any) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": category,
        "bbox": [10, 20, 30, 40],
        "area": 1200,
        "segmentation": polygon(20, 10, 60, 40),
    } | other


def fingerprint(root: Path, annotations: list[dict[str, Any]], images: int = 3) -> Fingerprint:
    dataset = read_dataset(write_dataset(root, annotations, images))
    return measure(dataset.file, dataset.crowd, dataset.check.paths.values())


def test_objects_are_counted_as_training_sees_them(tmp_path: Path) -> None:
    crowd = {"segmentation": {"size": [64, 96], "counts": [0, 64 * 96]}, "iscrowd": 1}
    data = fingerprint(
        tmp_path,
        [
            annotation(1, 7),
            annotation(1, 7, bbox=[90, 4, 30, 9], segmentation=polygon(4, 90, 13, 120)),
            annotation(2, 7, **crowd),
            annotation(3, 3, segmentation=[]),
            annotation(3, 7),
        ],
    )
    assert data.image_sizes == ((64, 96),) * 3
    assert data.object_boxes == ((40, 30), (9, 6), (40, 30))  # the second ends at the border
    assert data.object_images == (0, 0, 2)
    assert data.objects_per_image.tolist() == [2, 0, 1]
    assert data.images_of_class == {"dog": 0, "cat": 2}
    assert (data.channels, data.is_deep) == ((3,), False)
    assert data.sides.tolist() == pytest.approx([1200**0.5, 54**0.5, 1200**0.5])
    assert data.lengths.tolist() == [40, 9, 40]


def test_channels_and_depth_are_the_files(tmp_path: Path) -> None:
    name = write_dataset(tmp_path, [annotation(1, 7), annotation(2, 7)], images=2)
    deep = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96) * 10
    Image.fromarray(deep).save(tmp_path / "images" / "1.png")
    dataset = read_dataset(name)
    data = measure(dataset.file, paths=dataset.check.paths.values())
    assert (data.channels, data.is_deep) == ((1, 3), True)


def test_the_factor_is_detectron2s(tmp_path: Path) -> None:
    data = Fingerprint(((100, 200), (300, 100)), ((1.0, 1.0),) * 3, (0, 1, 1), {"a": 2})
    assert data.resized(50, 1000).tolist() == [0.5, 0.5, 0.5]
    assert data.resized(50, 100).tolist() == pytest.approx([0.5, 1 / 3, 1 / 3])


def test_nothing_to_learn_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no objects with masks"):
        fingerprint(tmp_path, [annotation(1, 7, segmentation=[])])


def test_a_json_and_a_folder_are_a_name_and_names_stay() -> None:
    assert in_place("a/b.json:c d") == "coco_json:a/b.json:c d"
    for name in ("coco_json:a.json:b", "yolo:dir", "yolo:dir.json", "coco_2017_train", "a.json"):
        assert in_place(name) == name
