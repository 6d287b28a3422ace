"""VOC 2012's instance segmentation, read from three small images in its real layout."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.data.formats.register import check_datasets
from solo_family.data.formats.voc import load_voc_instances, register_voc_instances
from solo_family.errors import DataError

PALETTE = [value for index in range(256) for value in (index, 255 - index, index // 2)]
CAT, PERSON, CHAIR = 8, 15, 9


def write_labels(path: Path, labels: np.ndarray) -> None:
    """As VOC's: 8 bits, with a palette."""
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette(PALETTE)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_voc(root: Path) -> Path:
    """Three images: a cat and a person with a void border; a chair; no object."""
    objects = np.zeros((3, 40, 60), int)
    objects[0, 5:15, 5:25], objects[0, 20:35, 30:50] = 1, 2
    objects[0, 4, 5:25], objects[0, 35, 30:50] = 255, 255
    objects[1, 10:30, 10:20] = 1
    classes = objects.copy()
    classes[0][objects[0] == 1], classes[0][objects[0] == 2] = CAT, PERSON
    classes[1][objects[1] == 1] = CHAIR
    names = ["2007_000033", "2007_000042", "2011_003276"]
    for name, of_object, of_class in zip(names, objects, classes):
        write_labels(root / "SegmentationObject" / f"{name}.png", of_object)
        write_labels(root / "SegmentationClass" / f"{name}.png", of_class)
        (root / "JPEGImages").mkdir(exist_ok=True)
        Image.new("RGB", (60, 40)).save(root / "JPEGImages" / f"{name}.jpg")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, some in {"train": names[2:], "val": names[:2], "trainval": names}.items():
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in some))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_voc(tmp_path / "VOC2012")


def test_masks_classes_and_boxes(root: Path) -> None:
    first, second = load_voc_instances(str(root), "val")
    assert first["image_id"] == "2007_000033"
    assert first["file_name"] == str(root / "JPEGImages" / "2007_000033.jpg")
    assert (first["height"], first["width"]) == (40, 60)
    cat, person = first["annotations"]
    names = MetadataCatalog.get("voc_2012_instance_val").thing_classes
    assert [names[a["category_id"]] for a in (cat, person)] == ["cat", "person"]
    assert names[second["annotations"][0]["category_id"]] == "chair"
    assert cat["bbox"] == [5, 5, 20, 10]
    mask = mask_util.decode(cat["segmentation"]).astype(bool)
    assert mask[5:15, 5:25].all()
    assert mask.sum() == 200  # without the void border


def test_an_image_without_objects(root: Path) -> None:
    (record,) = load_voc_instances(str(root), "train")
    assert record["annotations"] == []
    assert len(load_voc_instances(str(root), "trainval")) == 3


@pytest.mark.parametrize("folder", ["JPEGImages", "SegmentationClass", "SegmentationObject"])
def test_a_missing_folder_is_named(root: Path, folder: str) -> None:
    shutil.rmtree(root / folder)
    name = f"voc_without_{folder}_{root.parent.name}"
    register_voc_instances(name, str(root), "val")
    with pytest.raises(DataError, match=f"there is no folder {root / folder}.*DETECTRON2_DATASETS"):
        check_datasets([name])


def test_an_unknown_split(root: Path) -> None:
    with pytest.raises(DataError, match=r"list of images .*test\.txt.*train, val, trainval"):
        load_voc_instances(str(root), "test")


def test_an_object_without_a_class(root: Path) -> None:
    write_labels(root / "SegmentationClass" / "2007_000042.png", np.zeros((40, 60)))
    with pytest.raises(DataError, match=r"object 1 of .*2007_000042\.png has no class"):
        load_voc_instances(str(root), "val")


def test_label_images_of_two_sizes(root: Path) -> None:
    write_labels(root / "SegmentationClass" / "2007_000042.png", np.zeros((40, 50)))
    with pytest.raises(DataError, match=r"2007_000042\.png has the size \(40, 60\).*\(40, 50\)"):
        load_voc_instances(str(root), "val")


def test_a_broken_label_image(root: Path) -> None:
    (root / "SegmentationObject" / "2007_000042.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"2007_000042\.png can't be read as an image"):
        load_voc_instances(str(root), "val")


def test_the_three_splits_are_registered() -> None:
    for split in ("train", "val", "trainval"):
        name = f"voc_2012_instance_{split}"
        assert name in DatasetCatalog.list()
        assert Path(MetadataCatalog.get(name).dirname).name == "VOC2012"
        assert len(MetadataCatalog.get(name).thing_classes) == 20
