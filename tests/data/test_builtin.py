"""Public datasets in their real folder layouts, three images each."""

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from solo_family.data import builtin
from solo_family.data.classes import dataset_classes
from solo_family.data.register import check_datasets
from solo_family.errors import DataError

from .segments import write_panoptic

# Name, image folder, label folder, label extension, dtype, void, and the file of class names.
SEMANTIC = {
    "ade20k_full_sem_seg_train": (
        *("ADE20K_2021_17_01/images_detectron2/training",),
        *("ADE20K_2021_17_01/annotations_detectron2/training", "tif", np.uint16, 65535),
        *("ADE20K_2021_17_01/classes_847.txt", "a\nb\nc\n"),
    ),
    "coco_2017_test_stuff_10k_sem_seg": (
        *("coco/coco_stuff_10k/images_detectron2/test",),
        *("coco/coco_stuff_10k/annotations_detectron2/test", "png", np.uint8, 255),
        *("coco/coco_stuff_10k/classes_171.txt", "a\nb\nc\n"),
    ),
    "mapillary_vistas_sem_seg_val": (
        *("mapillary_vistas/validation/images", "mapillary_vistas/validation/labels"),
        *("png", np.uint8, 65, "mapillary_vistas/config.json"),
        json.dumps(
            {
                "labels": [
                    *({"readable": name, "evaluate": True} for name in "abc"),
                    {"readable": "Unlabeled", "evaluate": False},
                ]
            }
        ),
    ),
}


@pytest.fixture
def registered(tmp_path: Path) -> Path:
    """Registers the datasets anew, under a folder of this test."""
    names = [
        name for name in DatasetCatalog.list() if name.startswith(("ade20k_full", "ade20k_pan"))
    ]
    names += [name for name in DatasetCatalog.list() if "stuff_10k" in name or "vistas_sem" in name]
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)
    builtin.register_builtin(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", SEMANTIC)
def test_semantic_datasets_in_their_layout(registered: Path, name: str) -> None:
    images, labels, extension, dtype, void, names_path, names = SEMANTIC[name]
    with pytest.raises(DataError, match=rf"{name}.*{images}, which does not exist"):
        check_datasets([name])
    assert dataset_classes(name) is None
    for folder in (images, labels):
        (registered / folder).mkdir(parents=True)
    (registered / names_path).write_text(names)
    for index in range(3):
        label = np.full((8, 12), index, dtype)
        label[0] = void
        Image.fromarray(label).save(registered / labels / f"{index}.{extension}")
        Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(registered / images / f"{index}.jpg")
    check_datasets([name])
    assert dataset_classes(name) == ["a", "b", "c"]
    records = DatasetCatalog.get(name)
    assert [Path(r["sem_seg_file_name"]).name for r in records] == [
        f"{index}.{extension}" for index in range(3)
    ]
    assert {(record["height"], record["width"]) for record in records} == {(8, 12)}
    assert MetadataCatalog.get(name).ignore_label == void


def test_ade20k_panoptic_in_its_layout(registered: Path) -> None:
    name = "ade20k_panoptic_val"
    with pytest.raises(DataError, match="ADEChallengeData2016/images/validation"):
        check_datasets([name])
    write_panoptic(registered / "written")
    root = registered / "ADEChallengeData2016"
    (root / "images").mkdir(parents=True)
    (registered / "written" / "images").rename(root / "images" / "validation")
    (registered / "written" / "panoptic").rename(root / "ade20k_panoptic_val")
    (registered / "written" / "panoptic.json").rename(root / "ade20k_panoptic_val.json")
    check_datasets([name])
    assert len(DatasetCatalog.get(name)) == 3
    assert dataset_classes(name) == ["cat", "dog", "sky"]
    assert MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id == {3: 0, 5: 1}


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("ade20k_sem_seg_train", "ADEChallengeData2016/images/training"),
        ("cityscapes_fine_sem_seg_val", "cityscapes/leftImg8bit/val"),
        ("coco_2017_val_panoptic", "coco/val2017"),
    ],
)
def test_detectron2s_own_say_which_folder_is_missing(name: str, folder: str) -> None:
    with pytest.raises(DataError, match=rf"{folder}.*does not exist"):
        check_datasets([name])
