"""Datasets of detectron2's dicts that a function of the user's returns, in many forms."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util
from torch import Tensor

from solo_family.data.formats.coco_json import dataset_truth
from solo_family.data.formats.own_records import dataset_records
from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
from solo_family.data.loading.loader import build_test_loader
from solo_family.errors import ConfigError, DataError

from ...coco_folder import noise, run_cfg, train_records

HEIGHT, WIDTH = 48, 64
POLYGON = [10.0, 8.0, 30.0, 8.0, 30.0, 32.0, 10.0, 32.0]
POINTS = np.array(POLYGON).reshape(-1, 2)
MASK = mask_util.decode(mask_util.frPyObjects([POLYGON], HEIGHT, WIDTH))[..., 0]
RLE = mask_util.encode(np.asfortranarray(MASK))
RUNS = np.diff([0, *np.flatnonzero(np.diff(MASK.flatten("F"))) + 1, MASK.size])

SEGMENTATIONS: dict[str, Any] = {
    "polygons": [POLYGON],
    "whole numbers": [list(map(int, POLYGON))],
    "arrays": [np.array(POLYGON)],
    "tuples": (tuple(POLYGON),),
    "pairs": [POINTS.tolist()],
    "arrays of pairs": [POINTS],
    "one polygon": POLYGON,
    "one array": np.array(POLYGON),
    "one array of pairs": POINTS,
    "array of polygons": np.array([POLYGON]),
    "array of polygons in whole numbers": np.array([POLYGON], int),
    "RLE": RLE,
    "RLE as text": RLE | {"counts": RLE["counts"].decode()},
    "RLE of a shape": {"size": MASK.shape, "counts": RLE["counts"]},
    "RLE of numpy's numbers": {"size": np.array(MASK.shape), "counts": RLE["counts"]},
    "RLE without a size": {"counts": RLE["counts"]},
    "runs": {"size": [HEIGHT, WIDTH], "counts": RUNS.tolist()},
    "runs as an array": {"size": [HEIGHT, WIDTH], "counts": RUNS},
    "mask": MASK,
    "mask of bools": MASK.astype(bool),
    "mask of 255": MASK * 255,
    "mask as a tensor": torch.from_numpy(MASK),
}
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def register(tmp_path: Path) -> Callable[..., str]:
    """Registers a dataset of one image and one object."""
    noise(HEIGHT, WIDTH).save(tmp_path / "0.png")

    def registering(classes: list[str] | None = None, **changed: Any) -> str:
        one = {
            "bbox": [10.0, 8.0, 30.0, 32.0],
            "bbox_mode": BoxMode.XYXY_ABS,
            "segmentation": [POLYGON],
            "category_id": 0,
            "iscrowd": 0,
        } | changed
        record = {"file_name": str(tmp_path / "0.png"), "height": HEIGHT, "width": WIDTH}
        record |= {"image_id": 7, "annotations": [one]}
        for part in (one, record):
            for key in [key for key, value in (part | changed).items() if value is None]:
                part.pop(key, None)
        name = f"own/{tmp_path.name}"
        DatasetCatalog.register(name, lambda: [record])
        if classes != []:
            MetadataCatalog.get(name).set(thing_classes=classes or ["box"])
        return name

    return registering


def learnt(name: str, tmp_path: Path) -> tuple[Tensor, Tensor]:
    """Returns the mask and the box that training sees."""
    cfg = run_cfg(name, tmp_path)
    (record,) = train_records(cfg)
    mapped = MaskDatasetMapper(cfg, is_train=True)(record)
    assert mapped is not None
    return mapped["instances"].gt_masks.tensor, mapped["instances"].gt_boxes.tensor


@pytest.mark.parametrize("form", SEGMENTATIONS)
def test_every_form_of_a_mask_is_read(
    tmp_path: Path, register: Callable[..., str], form: str
) -> None:
    given = copy.deepcopy(SEGMENTATIONS[form])
    name = register(segmentation=given)
    masks, boxes = learnt(name, tmp_path)
    assert torch.equal(masks, torch.from_numpy(MASK)[None].bool())
    assert boxes.tolist() == [[10, 8, 30, 32]]
    truth = dataset_truth(name)
    assert np.array_equal(truth.annToMask(truth.anns[1]), MASK)
    # What the user's function has returned is as it was.
    (record,) = DatasetCatalog.get(name)
    assert record["annotations"][0]["segmentation"] is given


@pytest.mark.parametrize("key", ["bbox", "bbox_mode", "iscrowd", "height", "image_id"])
@pytest.mark.parametrize("form", ["polygons", "RLE"])
def test_what_a_mask_says_need_not_be_there(
    tmp_path: Path, register: Callable[..., str], key: str, form: str
) -> None:
    missing = {"height": None, "width": None} if key == "height" else {key: None}
    name = register(segmentation=SEGMENTATIONS[form], **missing)
    masks, boxes = learnt(name, tmp_path)
    assert masks.sum() == MASK.sum()
    assert boxes.tolist() == [[10, 8, 30, 32]]
    truth = dataset_truth(name)
    (batch,) = build_test_loader(run_cfg(name, tmp_path), name)
    assert [batch[0]["image_id"]] == list(truth.imgs)


@pytest.mark.parametrize("index", [1.0, np.int64(1), np.array(1), torch.tensor(1)])
def test_a_class_is_any_whole_number(
    tmp_path: Path, register: Callable[..., str], index: Any
) -> None:
    name = register(["box", "ball"], category_id=index)
    (record,) = train_records(run_cfg(name, tmp_path))
    (one,) = record["annotations"]
    assert (type(one["category_id"]), one["category_id"]) == (int, 1)


@pytest.mark.parametrize("image_id", [None, np.int64(0), np.array(0), torch.tensor(0)])
def test_a_path_and_an_id_are_of_any_type(tmp_path: Path, image_id: Any) -> None:
    noise(HEIGHT, WIDTH).save(tmp_path / "0.png")
    one = {"segmentation": [POLYGON], "category_id": 0}
    record = {"file_name": tmp_path / "0.png", "image_id": image_id, "annotations": (one,)}
    name = f"own/{tmp_path.name}"
    DatasetCatalog.register(name, lambda: [record | {"height": HEIGHT, "width": WIDTH}])
    MetadataCatalog.get(name).set(thing_classes=["box"])
    masks, _ = learnt(name, tmp_path)
    assert masks.sum() == MASK.sum()
    (batch,) = build_test_loader(run_cfg(name, tmp_path), name)
    assert (type(batch[0]["image_id"]), batch[0]["image_id"]) == (int, 0)
    assert dataset_truth(name).imgs[0]["file_name"] == str(tmp_path / "0.png")


@pytest.mark.parametrize("with_id", [True, False])
def test_images_in_another_order_are_those_of_their_truth(
    tmp_path: Path, with_id: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """As of a function that shuffles, or that lists a folder which the system does not sort."""
    order = ["0.png", "1.png", "2.png"]
    for file in order:
        noise(HEIGHT, WIDTH).save(tmp_path / file)

    def load() -> list[dict[str, Any]]:
        order.append(order.pop(0))
        record = {"height": HEIGHT, "width": WIDTH, "annotations": []}
        found = [record | {"file_name": str(tmp_path / file)} for file in order]
        return [r | {"image_id": i} for i, r in enumerate(found)] if with_id else found

    name = f"own/{tmp_path.name}"
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(thing_classes=["box"])
    with caplog.at_level("INFO"):
        first, again = dataset_records(name), dataset_records(name)
    assert [(r["file_name"], r["image_id"]) for r in first] == [
        (r["file_name"], r["image_id"]) for r in again
    ]
    truth = dataset_truth(name).imgs
    assert {i: image["file_name"] for i, image in truth.items()} == {
        r["image_id"]: r["file_name"] for r in first
    }
    assert "has returned the images in another order" in caplog.text


@pytest.mark.parametrize("annotations", [{"masks": []}, "none", 5, [[POLYGON]], [None]])
def test_objects_that_are_no_list_of_dicts_are_refused(tmp_path: Path, annotations: Any) -> None:
    name = f"own/{tmp_path.name}"
    DatasetCatalog.register(name, lambda: [{"file_name": "0.png", "annotations": annotations}])
    with pytest.raises(DataError, match=r"has annotations .*; it must be a list with a dict"):
        dataset_records(name)


def test_an_empty_box_is_that_of_the_mask(tmp_path: Path, register: Callable[..., str]) -> None:
    assert learnt(register(bbox=[]), tmp_path)[1].tolist() == [[10, 8, 30, 32]]
    (box,) = (one["bbox"] for one in dataset_truth(f"own/{tmp_path.name}").anns.values())
    assert box == [10, 8, 20, 24]


def test_a_mask_of_another_size_is_no_polygon(tmp_path: Path, register: Callable[..., str]) -> None:
    name = register(segmentation=np.ones((WIDTH, HEIGHT), np.uint8) * 255)
    with pytest.raises(DataError, match="nothing to learn"):
        train_records(run_cfg(name, tmp_path))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"category_id": 0.5}, "category_id 0.5; it must be the place"),
        ({"category_id": True}, "category_id True; it must be the place"),
        ({"category_id": "0"}, "category_id '0'; it must be the place"),
        ({"category_id": 1}, "category_id 1; it must be the place .*, from 0 to 0"),
        ({"category_id": -1}, "category_id -1; it must be the place"),
        ({"category_id": None}, "category_id None; it must be the place"),
        ({"segmentation": "10 8 30 8"}, "segmentation '10 8 30 8', which can't be read"),
        ({"segmentation": {"size": [48, 64]}}, "segmentation .*, which can't be read"),
        ({"segmentation": None}, "nothing to learn"),
        ({"annotations": None}, "nothing to learn"),
    ],
)
def test_what_says_nothing_is_refused(
    tmp_path: Path, register: Callable[..., str], changed: dict[str, Any], message: str
) -> None:
    name = register(**changed)
    with pytest.raises(DataError, match=message):
        train_records(run_cfg(name, tmp_path))


def test_a_class_that_the_model_has_not_is_refused_without_names(
    tmp_path: Path, register: Callable[..., str]
) -> None:
    name = register([], category_id=2)
    count = "MODEL.SOLOV2.NUM_CLASSES"
    with pytest.raises(ConfigError, match=f"{count} is 2, but .* category_id 2; classes count"):
        train_records(run_cfg(name, tmp_path, count, 2))
    assert train_records(run_cfg(name, tmp_path, count, 3))


def test_a_test_set_without_images_is_refused(tmp_path: Path) -> None:
    name = f"own/{tmp_path.name}"
    DatasetCatalog.register(name, list)
    with pytest.raises(DataError, match=r"of DATASETS\.TEST has no images"):
        build_test_loader(run_cfg(name, tmp_path), name)


def test_labels_that_are_pictures_are_left_alone(tmp_path: Path) -> None:
    name = f"own/{tmp_path.name}"
    own = [{"file_name": "0.png", "sem_seg_file_name": "0_labels.png"}]
    DatasetCatalog.register(name, lambda: own)
    assert dataset_records(name) == own


def test_what_detectron2_reads_itself_is_taken_as_it_is() -> None:
    """As LVIS: its million of objects need not be looked at one by one."""
    records = [{"file_name": "a.jpg", "image_id": 1, "annotations": [{"category_id": 1202}]}]

    def load() -> list[dict[str, Any]]:
        return records

    load.__module__ = "detectron2.data.datasets.lvis"
    DatasetCatalog.register("as_lvis", load)
    try:
        assert dataset_records("as_lvis")[0] is records[0]
    finally:
        DatasetCatalog.remove("as_lvis")
