"""Files of labelling tools are read as they are, and give the objects that were drawn."""

import shutil
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools import mask as mask_util

from solo_family.data.formats.coco_json import dataset_truth
from solo_family.data.formats.register import check_datasets
from solo_family.errors import DataError

from ...coco_folder import run_cfg, train_records
from ..tools import FIXTURES

# The name, and the pixels of the three objects; the dog has a hole of 60 pixels in some.
PLAIN, HOLE = [384, 540, 440], [384, 480, 440]
# supervision's polygons go through the centres of the outermost pixels.
CENTRES = [15 * 23, 480, 21 * 19]
NAMES = {
    "Label Studio": ("coco_json:{}/label_studio/result.json:{}/label_studio", PLAIN),
    "Label Studio, YOLO": ("yolo:{}/label_studio_yolo", PLAIN),
    "Roboflow": ("coco_json:{}/roboflow/_annotations.coco.json:{}/roboflow", PLAIN),
    "FiftyOne": ("coco_json:{}/fiftyone/labels.json:{}/fiftyone/data", PLAIN),
    "VIA": ("coco_json:{}/via/via_export_coco.json:{}/via", PLAIN),
    "datumaro and CVAT": (
        "coco_json:{}/datumaro/annotations/instances_train.json:{}/datumaro?crowd=objects",
        HOLE,
    ),
    "datumaro, VOC": ("voc:{}/datumaro_voc", HOLE),
    "supervision": (
        "coco_json:{}/supervision/annotations.json:{}/supervision?crowd=objects",
        CENTRES,
    ),
}


@pytest.mark.parametrize("tool", NAMES)
def test_a_tools_files_have_what_was_drawn(tool: str, tmp_path: Path) -> None:
    form, areas = NAMES[tool]
    shutil.copytree(FIXTURES, tmp_path / "tools")
    name = form.format(tmp_path / "tools", tmp_path / "tools")
    check_datasets([name])
    assert MetadataCatalog.get(name).thing_classes == ["cat", "dog"]
    first, second = DatasetCatalog.get(name)
    assert (Path(first["file_name"]).stem, Path(second["file_name"]).stem) == ("a", "b")
    assert sorted(item["category_id"] for item in first["annotations"]) == [0, 0, 1]
    assert {item["iscrowd"] for item in first["annotations"]} == {0}
    assert second["annotations"] == []
    cats, (dog,) = [
        sorted(mask_util.area(a["segmentation"]) for a in objects)
        for objects in (
            [a for a in dataset_truth(name).anns.values() if a["category_id"] == identity]
            for identity in MetadataCatalog.get(name).get(
                "thing_dataset_id_to_contiguous_id", {0: 0, 1: 1}
            )
        )
    ]
    assert (sorted(cats), dog) == (sorted(areas[::2]), areas[1])
    assert len(train_records(run_cfg(name, tmp_path))) == 1


def test_masks_of_datumaro_are_crowds_until_the_message_is_followed(tmp_path: Path) -> None:
    name, _ = NAMES["datumaro and CVAT"]
    name = name.format(FIXTURES, FIXTURES).removesuffix("?crowd=objects")
    with pytest.raises(DataError, match="all 3 masks that can be read are crowds") as error:
        train_records(run_cfg(name, tmp_path))
    assert f"DATASETS.TRAIN \"('{name}?crowd=objects',)\"" in str(error.value)


def test_text_files_without_their_images_are_refused(tmp_path: Path) -> None:
    root = shutil.copytree(FIXTURES / "label_studio_yolo", tmp_path / "data")
    (root / "labels").rename(root / "texts")
    with pytest.raises(DataError, match=r"no image has a text file in .*labels"):
        check_datasets([f"yolo:{root}"])
    # As the message says: in the folder 'labels' beside 'images'.
    (root / "texts").rename(root / "labels")
    DatasetCatalog.get(f"yolo:{root}")
