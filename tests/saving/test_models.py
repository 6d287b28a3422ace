"""What each kind of model predicts, saved and read again."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util

from solo_family import Predictor
from solo_family.data.formats.label_maps import read_labels, read_panoptic_ids
from solo_family.predictor import Result
from solo_family.saving.writer import SAVERS

from ..conftest import of_all_or_slow
from ..predictor.test_predictor import tiny_run

TEST = "MODEL.MASK_FORMER.TEST"


def result_of(folder: Path, method: str, *opts: object) -> Result:
    tiny_run(folder / "run", method, *opts)
    pixels = np.random.default_rng(0).integers(0, 120, (50, 70, 3), dtype=np.uint8)
    pixels[10:30, 20:50, 0] += 120
    Image.fromarray(pixels).save(folder / "photo.png")
    return Predictor(folder / "run", confidence_threshold=0)(folder / "photo.png")


@pytest.mark.parametrize("method", of_all_or_slow("MaskFormer", "SparseInst"))
def test_instances_of_every_method_are_saved_as_they_are(method: str, tmp_path: Path) -> None:
    only = [f"{TEST}.SEMANTIC_ON", False, f"{TEST}.PANOPTIC_ON", False]
    result = result_of(tmp_path, method, *(only if method == "MaskFormer" else []))
    result.save(tmp_path / "out", "pictures", "coco-rle", "csv")
    content = json.loads((tmp_path / "out" / "coco_rle.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["photo.png"]
    assert [one["name"] for one in content["categories"]] == result.class_names
    filled = [index for index, mask in enumerate(result.masks) if mask.any()]
    assert len(filled) == len(content["annotations"]) > 0
    for index, annotation in zip(filled, content["annotations"]):
        read = mask_util.decode(annotation["segmentation"])
        np.testing.assert_array_equal(read, result.masks[index])
    assert Image.open(tmp_path / "out" / "photo.png").size == (70, 50)


def test_a_semantic_model_gives_its_label_map(tmp_path: Path) -> None:
    only = [f"{TEST}.INSTANCE_ON", False, f"{TEST}.PANOPTIC_ON", False]
    result = result_of(tmp_path, "MaskFormer", *only)
    result.save(tmp_path, "label-map", "panoptic")
    read = read_labels(str(tmp_path / "label_maps" / "photo.png"), len(result.class_names))
    np.testing.assert_array_equal(read, result.semantic)


def test_a_panoptic_model_gives_every_format(tmp_path: Path) -> None:
    only = [f"{TEST}.INSTANCE_ON", False, f"{TEST}.SEMANTIC_ON", False]
    keys = [f"{TEST}.OBJECT_MASK_THRESHOLD", 0.0, f"{TEST}.OVERLAP_THRESHOLD", 0.0]
    result = result_of(tmp_path, "MaskFormer", *only, *keys, "MODEL.STUFF_IDS", [1, 2])
    result.save(tmp_path, *SAVERS)
    ids, infos = result.panoptic
    assert infos
    read = read_panoptic_ids(str(tmp_path / "panoptic" / "photo.png"))
    content = json.loads((tmp_path / "panoptic.json").read_text())
    assert [one["isthing"] for one in content["categories"]] == [1, 0, 0]
    (annotation,) = content["annotations"]
    assert len(annotation["segments_info"]) == len(infos)
    for one, info in zip(annotation["segments_info"], infos):
        np.testing.assert_array_equal(read == one["id"], ids == info["id"])
    labels = read_labels(str(tmp_path / "label_maps" / "photo.png"), len(result.class_names))
    for info in infos:
        assert (labels[ids == info["id"]] == info["category_id"]).all()
