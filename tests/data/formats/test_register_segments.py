"""Semantic and panoptic datasets: named in place, registered, wrong."""

import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from solo_family.data.formats.classes import dataset_classes, num_classes, stuff_ids
from solo_family.data.formats.register import check_datasets
from solo_family.errors import ConfigError, DataError

from ...conftest import tiny_cfg
from ..segments import HEIGHT, WIDTH, write_panoptic, write_semantic


def test_a_semantic_name_in_place(tmp_path: Path) -> None:
    name = write_semantic(tmp_path, ignore=":7")
    check_datasets([name])
    assert dataset_classes(name) == ["a", "b", "c"]
    record = DatasetCatalog.get(name)[1]
    assert record["sem_seg_file_name"] == str(tmp_path / "labels" / "1.png")
    assert (record["height"], record["width"]) == (HEIGHT, WIDTH)
    assert MetadataCatalog.get(name).ignore_label == 7
    cfg = tiny_cfg("MaskFormer", 0, ["DATASETS.TRAIN", (name,)])
    assert num_classes(cfg, "MODEL.SEM_SEG_HEAD.NUM_CLASSES") == 3
    assert stuff_ids(cfg, 3) == (0, 1, 2)


def test_class_names_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("sky\n\n big tree \n")
    name = write_semantic(tmp_path / "data", classes=str(tmp_path / "names.txt"))
    assert dataset_classes(name) == ["sky", "big tree"]


def test_a_panoptic_name_in_place(tmp_path: Path) -> None:
    name = write_panoptic(tmp_path)[0]
    check_datasets([name])
    assert dataset_classes(name) == ["cat", "dog", "sky"]
    cfg = tiny_cfg("MaskFormer", 0, ["DATASETS.TRAIN", (name,)])
    assert stuff_ids(cfg, 3) == (2,)
    segments = DatasetCatalog.get(name)[0]["segments_info"]
    assert [(s["category_id"], s["isthing"]) for s in segments][:2] == [(2, False), (0, True)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_panoptic_json_of_windows(encoding: str, tmp_path: Path) -> None:
    name, *_ = write_panoptic(tmp_path)
    path = Path(name.rpartition(":")[2])
    path.write_text(path.read_text(), encoding=encoding)
    check_datasets([name])
    assert len(DatasetCatalog.get(name)[0]["segments_info"]) > 1


def test_what_training_stored_suffices() -> None:
    opts = ["MODEL.CLASS_NAMES", ["a", "b", "c"], "MODEL.STUFF_IDS", [1]]
    assert stuff_ids(tiny_cfg("MaskFormer", 3, opts), 3) == (1,)
    assert stuff_ids(tiny_cfg("MaskFormer", 3), 3) == ()


def test_another_class_count_is_refused(tmp_path: Path) -> None:
    cfg = tiny_cfg("MaskFormer", 5, ["DATASETS.TRAIN", (write_semantic(tmp_path),)])
    with pytest.raises(ConfigError, match=r"NUM_CLASSES is 5, but dataset .* has 3 classes"):
        num_classes(cfg, "MODEL.SEM_SEG_HEAD.NUM_CLASSES")


@pytest.mark.parametrize(
    "name", ["semantic:a:b", "semantic:a:b:c:x", "panoptic:a:b", "panoptic:::"]
)
def test_names_of_another_form_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"write (semantic|panoptic):IMAGE_DIR"):
        check_datasets([name])


def test_an_image_without_a_label_is_named(tmp_path: Path) -> None:
    name = write_semantic(tmp_path)
    (tmp_path / "labels" / "1.png").unlink()
    with pytest.raises(DataError, match="there is no label for 1"):
        check_datasets([name])


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    name = write_semantic(tmp_path / "a")
    with pytest.raises(DataError, match=r"needs the folder .*nowhere.*Correct this path") as error:
        check_datasets([name.replace("labels", "nowhere")])
    assert "DETECTRON2_DATASETS" not in str(error.value)
    name = write_panoptic(tmp_path / "b")[0]
    with pytest.raises(DataError, match=r"nothing\.json can't be read"):
        check_datasets([name.replace("panoptic.json", "nothing.json")])
    (tmp_path / "b" / "panoptic" / "2.png").unlink()
    with pytest.raises(DataError, match=r"names 1 images of 3 that are not in .*panoptic: 2\.png"):
        check_datasets([name])


def test_a_segment_of_an_unknown_category_is_named(tmp_path: Path) -> None:
    name = write_panoptic(tmp_path)[0]
    path = tmp_path / "panoptic.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segments_info"][0]["category_id"] = 44
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"segment 70000 of 0\.png has category_id 44"):
        check_datasets([name])


def test_a_registered_dataset_that_is_missing_is_told_where_it_belongs() -> None:
    register_coco_instances("absent_train", {}, "absent/train.json", "absent")
    advice = r"needs the file absent/train\.json, .*DATASETS\.TRAIN .*DETECTRON2_DATASETS"
    try:
        with pytest.raises(DataError, match=advice):
            check_datasets(["absent_train"])
    finally:
        DatasetCatalog.remove("absent_train")
        MetadataCatalog.remove("absent_train")
