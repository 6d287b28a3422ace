"""The dense benchmark: what its data are, how objects are cut, what its variants change."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util

from benchmarks.nuclei import CLASSES, boxes_of, write_part
from benchmarks.strip import cut, variant

from .conftest import eager_to_find, tiny_model


def test_parts_of_the_section_hold_the_pixels_of_each_nucleus(tmp_path: Path) -> None:
    labels = np.zeros((500, 750), np.int32)
    labels[240:260, 10:30], labels[5:9, 600:700] = 7, 9
    boxes = boxes_of(0, 500, 750, 250)
    assert boxes[:2] == [(0, 0, 250, 250), (250, 0, 500, 250)]
    assert len(boxes) == 6
    write_part(tmp_path, "tiles", np.zeros((500, 750, 3), np.uint8), labels, boxes)
    content = json.loads((tmp_path / "tiles.json").read_text())
    found = {(item["image_id"], item["area"]) for item in content["annotations"]}
    # One nucleus is cut by the border of two tiles; the other is on one.
    assert found == {(1, 10 * 20), (4, 10 * 20), (3, 4 * 100)}
    for item in content["annotations"]:
        x0, y0, x1, y1 = boxes[item["image_id"] - 1]
        inside = labels[y0:y1, x0:x1] > 0
        assert (mask_util.decode(item["segmentation"]) > 0).tolist() == inside.tolist()


def test_a_nucleus_has_the_class_of_most_of_its_pixels(tmp_path: Path) -> None:
    labels, classes = np.zeros((250, 250), np.int32), np.zeros((250, 250), np.int32)
    labels[:4, :5], labels[9:12, :5] = 1, 2
    classes[:4, :2], classes[:4, 2:5], classes[9:12, :5] = 1, 3, 2
    image = np.zeros((250, 250, 3), np.uint8)
    write_part(tmp_path, "tiles", image, labels, boxes_of(0, 250, 250, 250), classes)
    content = json.loads((tmp_path / "tiles.json").read_text())
    assert [item["category_id"] for item in content["annotations"]] == [3, 2]
    assert [item["name"] for item in content["categories"]] == [*CLASSES]


def test_instances_are_cut_where_pictures_meet() -> None:
    masks = torch.zeros(2, 10, 20, dtype=torch.bool)
    masks[0, 2:5, 8:13], masks[1, 1:3, 15:17] = True, True
    whole = Instances((10, 20), pred_masks=masks, scores=torch.tensor([0.9, 0.8]))
    whole.pred_classes, whole.pred_boxes = torch.tensor([3, 4]), Boxes(torch.zeros(2, 4))
    left, right = cut(whole, [(0, 0, 10, 10), (10, 0, 20, 10)])
    assert left.pred_boxes.tensor.tolist() == [[8, 2, 10, 5]]
    assert right.pred_boxes.tensor.tolist() == [[0, 2, 3, 5], [5, 1, 7, 3]]
    assert (left.pred_classes.tolist(), right.pred_classes.tolist()) == ([3], [3, 4])


def test_variants_change_what_they_name_and_leave_the_model_as_it_was() -> None:
    opts = ["MODEL.SOLOV2.GRID_REFERENCE_SIZE", (32, 32)]
    model: Any = eager_to_find(tiny_model("SOLOv2", opts=opts))
    layout = model.layout
    shapes, kernels = {}, {}
    with torch.no_grad():
        images = model.preprocess([torch.rand(3, 64, 64) * 255]).tensor
        features = model.backbone(images)
        for which in ((False, False, False), (True, False, False), (True, True, True)):
            with variant(model, *which):
                outputs = model.run_head(features, (64, 64))
                shapes[which] = outputs.category_logits[0].shape[-1]
                kernels[which] = outputs.kernels
                local = type(model.selection((64, 64)).decoder).__name__
                assert (local == "LocalMaskDecoder") is which[2]
    assert list(shapes.values()) == [12, 24, 24]
    alone, both = list(kernels.values())[1:]
    assert not torch.equal(alone, both)
    assert model.layout is layout is model.head.layout
    assert model.mask_branch.coord_span == (1.0, 1.0)
