"""Public datasets in their real folder layouts, three images each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from solo_family.data.formats import builtin
from solo_family.data.formats.classes import dataset_classes
from solo_family.data.formats.register import check_datasets
from solo_family.errors import DataError

from ...conftest import ROOT
from ..segments import write_panoptic

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
    "coco_2017_val_panoptic_sem_seg": (
        *("coco/val2017", "coco/panoptic_semseg_val2017", "png", np.uint8, 255),
        *("coco/panoptic_semseg_classes.txt", "a\nb\nc\n"),
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
    parts = (
        *("ade20k_full", "ade20k_pan", "stuff_10k", "panoptic_sem", "vistas_sem"),
        *("voc_sbd", "first_5000"),
    )
    names = [name for name in DatasetCatalog.list() if any(part in name for part in parts)]
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


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_detectron2s_own(root: Path) -> None:
    """Writes three images of each: halves of two classes, of two segments."""
    picture = np.zeros((32, 64, 3), np.uint8)
    halves = np.zeros((32, 64), np.uint8)
    halves[:, 32:] = 11
    void = np.full((32, 64), 255, np.uint8)
    content: dict[str, list] = {"images": [], "annotations": []}
    content["categories"] = [{"id": 1, "name": "person", "isthing": 1}]
    content["categories"] += [{"id": 187, "name": "sky-other-merged", "isthing": 0}]
    for index in range(3):
        labels = void if index == 2 else halves
        ade, name = root / "ADEChallengeData2016", f"{index}"
        save(ade / "images" / "training" / f"{name}.jpg", picture)
        save(ade / "annotations_detectron2" / "training" / f"{name}.png", labels)
        city, name = "aachen", f"aachen_00000{index}_000019"
        save(
            root / "cityscapes/leftImg8bit/train" / city / f"{name}_leftImg8bit.png",
            picture,
        )
        truth = root / "cityscapes/gtFine/train" / city
        for kind in ("instanceIds", "labelIds", "labelTrainIds"):
            save(truth / f"{name}_gtFine_{kind}.png", labels)
        (truth / f"{name}_gtFine_polygons.json").write_text('{"imgHeight": 32, "imgWidth": 64}')
        name = f"00000000000{index}"
        save(root / "coco" / "train2017" / f"{name}.jpg", picture)
        colours = np.stack([halves + 1, 0 * halves, 0 * halves], axis=2)
        save(root / "coco" / "panoptic_train2017" / f"{name}.png", colours)
        content["images"].append(
            {"id": index, "file_name": f"{name}.jpg", "height": 32, "width": 64}
        )
        segments = [{"id": 1, "category_id": 1, "iscrowd": 0}]
        segments += [{"id": 12, "category_id": 187, "iscrowd": 0}]
        content["annotations"].append(
            {"image_id": index, "file_name": f"{name}.png", "segments_info": segments}
        )
    annotations = root / "coco" / "annotations"
    annotations.mkdir()
    (annotations / "panoptic_train2017.json").write_text(json.dumps(content))


# Their folders are fixed when detectron2 is imported.
OWN = """
import json, sys
from solo_family.data.formats.classes import num_classes
from solo_family.data.loading.loader import build_train_mapper
from tests.coco_folder import train_records
from tests.conftest import tiny_cfg

found = {}
for name in sys.argv[1:]:
    opts = ["DATASETS.TRAIN", (name,), "INPUT.MIN_SIZE_TRAIN", (32,)]
    cfg = tiny_cfg("MaskFormer", 0, opts)
    records = train_records(cfg)
    mapper = build_train_mapper(cfg, records)
    classes = [mapper(record)["instances"].gt_classes.tolist() for record in records]
    found[name] = [num_classes(cfg, "MODEL.SEM_SEG_HEAD.NUM_CLASSES"), classes]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_detectron2s_own_in_their_layout(tmp_path: Path) -> None:
    write_detectron2s_own(tmp_path)
    names = ["ade20k_sem_seg_train", "cityscapes_fine_sem_seg_train", "coco_2017_train_panoptic"]
    process = subprocess.run(
        [sys.executable, "-c", OWN, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "DETECTRON2_DATASETS": str(tmp_path)},
    )
    assert process.returncode == 0, process.stderr
    semantic = [[0, 11], [0, 11], []]
    assert json.loads(process.stdout.splitlines()[-1]) == {
        "ade20k_sem_seg_train": [150, semantic],
        "cityscapes_fine_sem_seg_train": [19, semantic],
        "coco_2017_train_panoptic": [133, [[0, 119]] * 3],
    }
