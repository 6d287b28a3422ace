"""Datasets named in place, wherever detectron2 looks a dataset up."""

import gzip
import json
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from pycocotools.coco import COCO

from solo_family.data.formats.panoptic_dataset import read_panoptic_json
from solo_family.data.formats.register import register_in_place
from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
from solo_family.engine.trainer import Trainer
from solo_family.errors import DataError
from solo_family.evaluation.coco_results import read_results
from solo_family.recipe.data import in_place

from ...conftest import tiny_cfg
from ..coco import CATEGORIES, NAMES, polygon, write_dataset

BOX = {"image_id": 1, "category_id": 7, "bbox": [20, 10, 30, 20]}
ANNOTATION = BOX | {"segmentation": polygon(10, 20, 30, 50)}


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    return write_dataset(tmp_path, [ANNOTATION])


def test_the_catalog_loads_a_name_that_nothing_registered(dataset: str) -> None:
    assert dataset not in DatasetCatalog.list()
    first, second = DatasetCatalog.get(dataset)
    assert dataset in DatasetCatalog.list()
    assert Path(first["file_name"]).is_file()
    assert (first["height"], first["width"]) == (64, 96)
    # Id 7 is the second of the ids 3 and 7.
    assert [annotation["category_id"] for annotation in first["annotations"]] == [1]
    assert second["annotations"] == []


def test_metadata_is_known_before_the_annotations_are_read(dataset: str, tmp_path: Path) -> None:
    register_in_place([dataset])
    metadata = MetadataCatalog.get(dataset)
    assert metadata.thing_classes == NAMES
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}
    assert metadata.evaluator_type == "coco"
    assert metadata.json_file == f"{tmp_path}/instances.json"
    assert metadata.image_root == f"{tmp_path}/images"
    DatasetCatalog.get(dataset)  # detectron2 sets the same again, and refuses other values
    register_in_place([dataset])


@pytest.mark.parametrize("key", ["DATASETS.TRAIN", "DATASETS.TEST"])
def test_loaders_take_a_name_in_place(dataset: str, key: str) -> None:
    opts = [key, (dataset,), "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 1]
    cfg = tiny_cfg(num_classes=2, opts=opts)
    if key == "DATASETS.TRAIN":
        (item,) = next(iter(Trainer.build_train_loader(cfg)))
        assert item["instances"].gt_classes.tolist() == [1]
    else:
        items = [item for (item,) in Trainer.build_test_loader(cfg, dataset)]
        assert [item["image_id"] for item in items] == [1, 2]


def test_detectron2s_own_loader_takes_it_too(dataset: str) -> None:
    cfg = tiny_cfg(opts=["DATALOADER.NUM_WORKERS", 0])
    mapper = MaskDatasetMapper(cfg, is_train=False)
    assert len(list(build_detection_test_loader(cfg, dataset, mapper=mapper))) == 2


def test_environment_variables_and_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "somewhere", [ANNOTATION])
    monkeypatch.setenv("SOLO_FAMILY_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for root in ("$SOLO_FAMILY_DATA/somewhere", "${SOLO_FAMILY_DATA}/somewhere", "~/somewhere"):
        name = f"coco_json:{root}/instances.json:{root}/images"
        record = DatasetCatalog.get(name)[0]
        assert Path(record["file_name"]) == tmp_path / "somewhere" / "images" / "1.png"


def test_registered_names_still_work_and_unknown_ones_are_still_unknown(tmp_path: Path) -> None:
    name = f"mine_{tmp_path.name}"
    DatasetCatalog.register(name, lambda: [{"file_name": "a.jpg"}])
    register_in_place([name, "coco_2017_train"])
    assert DatasetCatalog.get(name) == [{"file_name": "a.jpg"}]
    assert MetadataCatalog.get("coco_2017_train").json_file.endswith("train2017.json")
    with pytest.raises(KeyError, match="not_mine' is not registered! Available datasets are"):
        DatasetCatalog.get("not_mine")


@pytest.mark.parametrize("form", ["coco_json:", "coco_json:a.json", "coco_json:a.json:", "{}:more"])
def test_a_malformed_name_says_how_to_write_it(dataset: str, form: str) -> None:
    with pytest.raises(DataError, match=r"write coco_json:ANNOTATIONS\.json:IMAGE_DIR"):
        register_in_place([form.format(dataset)])


def test_a_missing_file_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    write_dataset(tmp_path, [ANNOTATION])
    none = tmp_path / "none"
    with pytest.raises(DataError, match=f"there is no annotation file {none}"):
        register_in_place([f"coco_json:{none}:{tmp_path}/images"])
    name = f"coco_json:{tmp_path}/instances.json:{none}"
    with pytest.raises(DataError, match=f"there is no image folder {none}"):
        DatasetCatalog.get(name)
    assert name not in DatasetCatalog.list()
    # What was missing may come later.
    none.symlink_to(tmp_path / "images")
    assert len(DatasetCatalog.get(name)) == 2


def zipped(content: bytes) -> bytes:
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        archive.writestr("instances.json", content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"{", "Expecting property name"),
        (b"\x89PNG\xff\xd8\x00", "it is a picture, in PNG"),
        (b"\x93NUMPY\x01\x00", "it is an array of numpy's"),
        (zipped(b"{}"), "it is a zip archive; unpack it"),
        (gzip.compress(b"{}")[:-9], "it is a gzip archive that is cut off or damaged"),
        (gzip.compress(b""), "it is empty"),
        (b"\n<!DOCTYPE html>", "it is XML or HTML"),
        (b'<?xml version="1.0"?><annotations>', "it is CVAT's XML; export the task again as COCO"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a pointer of Git LFS"),
    ],
)
def test_a_file_that_is_not_json(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "instances.json").write_bytes(content)
    with pytest.raises(DataError, match=rf"instances\.json is not JSON: {what}"):
        DatasetCatalog.get(f"coco_json:{tmp_path}/instances.json:{tmp_path}")
    with pytest.raises(DataError, match=rf"instances\.json is not JSON: {what}"):
        read_panoptic_json(str(tmp_path / "instances.json"))
    with pytest.raises(DataError, match=rf"instances\.json is not JSON: {what}"):
        read_results(str(tmp_path / "instances.json"), COCO())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"shapes": [], "imagePath": "a.jpg"}, "labelme's json of one image.* solo_family labelme"),
        ({"imgHeight": 6, "imgWidth": 8, "objects": []}, "Cityscapes' json .*_fine_sem_seg_train"),
        ({"size": {"height": 6, "width": 8}, "objects": []}, "Supervisely's json of one image"),
        ({"categories": {"label": {}}, "items": []}, "Datumaro's own json.* -f coco_instances"),
        ({"a.jpg1": {"filename": "a.jpg", "regions": []}}, "VIA's own json"),
        ({"_via_settings": {}, "_via_img_metadata": {}}, "VIA's own json"),
        ([{"id": 1, "annotations": [], "data": {"image": "a.jpg"}}], "Label Studio's own json"),
        ([{"id": 1, "image": "a.jpg", "annotation_id": 2, "tag": []}], "Label Studio's own json"),
        ({"type": "FeatureCollection", "features": []}, "GeoJSON, as of QuPath.*masks:IMAGE_DIR"),
        ([{"type": "Feature", "geometry": {}}], "GeoJSON, as of QuPath"),
        ([], "not in COCO's format for instances: 'images' must be a list"),
        ({}, "not in COCO's format for instances: 'images' must be a list"),
        (7, "not in COCO's format for instances: 'images' must be a list"),
    ],
)
def test_the_json_of_another_tool_is_named(tmp_path: Path, content: Any, said: str) -> None:
    (tmp_path / "instances.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=said) as error:
        DatasetCatalog.get(f"coco_json:{tmp_path}/instances.json:{tmp_path}")
    assert "\n" not in str(error.value)


def test_a_gzipped_json_is_read(tmp_path: Path) -> None:
    write_dataset(tmp_path, [ANNOTATION])
    packed = tmp_path / "instances.json.gz"
    packed.write_bytes(gzip.compress((tmp_path / "instances.json").read_bytes()))
    plain, same = (
        DatasetCatalog.get(in_place(f"{path}:{tmp_path}/images"))
        for path in (tmp_path / "instances.json", packed)
    )
    assert len(plain) == 2
    assert same == plain


@pytest.mark.parametrize(
    "content",
    [
        [],
        3,
        {},
        {"images": []},
        {"images": [], "annotations": [], "categories": []},
        {"images": [], "annotations": [], "categories": {"1": "cat"}},
        {"images": [], "annotations": [], "categories": ["cat", "dog"]},
        {"images": [], "annotations": [], "categories": [{"name": "cat"}]},
        {"annotations": [], "categories": CATEGORIES},
    ],
)
def test_json_that_is_not_cocos(tmp_path: Path, content: object) -> None:
    (tmp_path / "instances.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"instances\.json"):
        DatasetCatalog.get(f"coco_json:{tmp_path}/instances.json:{tmp_path}")
