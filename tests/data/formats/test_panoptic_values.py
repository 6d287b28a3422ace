"""Values of a panoptic json in other forms are read, and those that can't be are named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from solo_family.data.checks import findings
from solo_family.data.formats.register import check_datasets, register_in_place
from solo_family.data.loading.mappers import build_train_mapper
from solo_family.errors import DataError
from solo_family.recipe.label_data import PANOPTIC, read_label_dataset

from ...conftest import tiny_cfg
from ..segments import HEIGHT, WIDTH, write_panoptic

Change = Callable[[dict[str, Any]], object]
AS_IS = [
    *("INPUT.MIN_SIZE_TRAIN", (HEIGHT,), "INPUT.MAX_SIZE_TRAIN", WIDTH),
    *("INPUT.RANDOM_FLIP", "none", "INPUT.FORMAT", "RGB"),
]


def written(root: Path, change: Change) -> str:
    name, *_ = write_panoptic(root)
    path = root / "panoptic.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return name


def all_segments(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for annotation in content["annotations"] for one in annotation["segments_info"]]


def put(items: list[dict[str, Any]], key: str, convert: Callable[[Any], Any]) -> None:
    for item in items:
        item[key] = convert(item[key])


def image_ids_as_text(content: dict[str, Any]) -> None:
    put(content["images"], "id", str)


def category_ids_as_text(content: dict[str, Any]) -> None:
    put(content["categories"], "id", str)


def segments_as_text(content: dict[str, Any]) -> None:
    put(all_segments(content), "id", str)
    put(all_segments(content), "category_id", float)


def flags_as_text(content: dict[str, Any]) -> None:
    put(all_segments(content), "iscrowd", str)
    put(content["categories"], "isthing", lambda flag: str(bool(flag)).lower())


def sizes_as_text(content: dict[str, Any]) -> None:
    put(content["images"], "height", str)
    put(content["images"], "width", float)


def no_sizes(content: dict[str, Any]) -> None:
    put(content["images"], "height", lambda _: None)
    for image in content["images"]:
        del image["width"]


def other_folders(content: dict[str, Any]) -> None:
    put(content["images"], "file_name", lambda name: f"C:\\data\\{name}")
    put(content["annotations"], "file_name", lambda name: f"panoptic_train/{name}")


def addresses(content: dict[str, Any]) -> None:
    for image in content["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{image.pop('file_name')}"


def loaded(name: str) -> list[dict[str, Any]]:
    register_in_place([name])
    check_datasets([name])
    records = DatasetCatalog.get(name)
    mapper = build_train_mapper(
        tiny_cfg("MaskFormer", 0, [*AS_IS, "DATASETS.TRAIN", (name,)]), records
    )
    return [mapper(record) for record in records]


@pytest.mark.parametrize(
    "change",
    [
        image_ids_as_text,
        category_ids_as_text,
        segments_as_text,
        flags_as_text,
        sizes_as_text,
        no_sizes,
        other_folders,
        addresses,
    ],
)
def test_other_forms_are_read(change: Change, tmp_path: Path) -> None:
    usual = write_panoptic(tmp_path / "usual")[0]
    other = written(tmp_path / "other", change)
    for expected, found in zip(loaded(usual), loaded(other), strict=True):
        assert torch.equal(found["sem_seg"], expected["sem_seg"])
        assert torch.equal(found["instances"].gt_classes, expected["instances"].gt_classes)
        assert (found["height"], found["width"]) == (HEIGHT, WIDTH)
    things = [
        MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id for name in (usual, other)
    ]
    assert things[0] == things[1] == {3: 0, 5: 1}


def first(part: str, key: str, value: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        content[part][0][key] = value

    return change


def segment(key: str, value: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        all_segments(content)[0][key] = value

    return change


def twice(content: dict[str, Any]) -> None:
    segments = content["annotations"][0]["segments_info"]
    segments.append(segments[0] | {"category_id": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (first("images", "id", [1]), r"image 0 .* has id \[1\]; it must be a whole number"),
        (first("images", "id", 2), r"1 ids in 'images' are duplicate: 2"),
        (first("images", "file_name", None), r"image 0 .* has file_name None; it must be a path"),
        (first("images", "height", -3), r"has height -3 and width 80; they must be whole numbers"),
        (first("images", "height", None), r"has height None and width 80"),
        (first("categories", "id", None), r"category 0 .* has id None; it must be a whole number"),
        (first("categories", "id", 3), r"1 ids in 'categories' are duplicate: 3"),
        (first("categories", "name", "cat"), r"categories 9 and 3 have the same name, 'cat'"),
        (first("categories", "name", None), r"category 0 .* has name None; it must be text"),
        (first("categories", "isthing", "no"), r"has isthing 'no'; it must be 0 or 1"),
        (first("annotations", "image_id", [1]), r"an annotation has image_id \[1\]"),
        (first("annotations", "file_name", 5), r"of image 1 has file_name 5; it must be a path"),
        (first("annotations", "segments_info", None), r"has segments_info with None; it must be"),
        (first("annotations", "segments_info", [{}]), r"has segments_info with \{\}; it must be"),
        (segment("id", None), r"has a segment with id None; it must be a whole number from 1"),
        (segment("id", 0), r"has a segment with id 0;"),
        (segment("category_id", [3]), r"has a segment with category_id \[3\]; it must be the id"),
        (segment("iscrowd", 2), r"has iscrowd 2; it must be 0 or 1"),
        (twice, r"the annotation of image 1 has the segment 70000 twice\. Remove one"),
        (lambda c: c["images"].append(None), r"'images' must be a list of objects with 'id'"),
        (lambda c: c["categories"].append(3), r"'categories' must be a list of objects with"),
    ],
)
def test_what_can_not_be_used_is_named(change: Change, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"panoptic\.json.*" + message):
        check_datasets([written(tmp_path, change)])


def test_a_wrong_size_in_the_json_is_told_as_such(tmp_path: Path) -> None:
    """Training and check-data agree that the json is wrong, and not the PNG."""

    def change(content: dict[str, Any]) -> None:
        content["images"][0] |= {"height": WIDTH, "width": HEIGHT}

    name = written(tmp_path, change)
    with pytest.raises(DataError, match=rf"0\.png is {HEIGHT} x {WIDTH}, but the dataset says"):
        loaded(name)
    check = read_label_dataset(name, PANOPTIC).check
    assert list(check.problems) == [findings.TURNED_SIZE]


def test_labels_of_another_size_are_still_refused(tmp_path: Path) -> None:
    name = write_panoptic(tmp_path)[0]
    path = tmp_path / "panoptic" / "1.png"
    Image.open(path).resize((40, 24), Image.Resampling.NEAREST).save(path)
    register_in_place([name])
    with pytest.raises(DataError, match=r"1\.png is 40x24 pixels, but its image"):
        read_label_dataset(name, PANOPTIC)
