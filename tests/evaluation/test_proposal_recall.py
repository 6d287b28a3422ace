"""Proposal recall against pycocotools and by hand."""

import contextlib
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.build import load_proposals_into_dataset
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from solo_family.data.formats.voc import register_voc_instances
from solo_family.evaluation.proposal_recall import ProposalRecallEvaluator

from ..coco_folder import CocoFolder, noise, rectangle
from ..data.formats.test_voc import write_voc


def instances_of(results: list[dict[str, Any]], size: tuple[int, int]) -> Instances:
    masks = [mask_util.decode(result["segmentation"]) for result in results]
    instances = Instances(size)
    instances.pred_masks = torch.tensor(np.array(masks).reshape(-1, *size)).bool()
    instances.pred_boxes = Boxes(torch.zeros((len(results), 4)))
    instances.scores = torch.tensor([result["score"] for result in results])
    instances.pred_classes = torch.zeros(len(results), dtype=torch.int64)
    return instances


def evaluated(name: str, images: dict[Any, Instances], output: Path) -> dict[str, float]:
    evaluator = ProposalRecallEvaluator(name, str(output))
    evaluator.reset()
    for image_id, instances in images.items():
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    results = evaluator.evaluate()
    assert results is not None
    return results["proposals"]


@pytest.fixture(scope="module")
def golden(
    data_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, COCO, list[dict[str, Any]]]:
    """The first 20 images of COCO's own fixture, and fake results."""
    folder = data_root / "eval_fixtures" / "cocoapi"
    content = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text())
    content["images"] = content["images"][:20]
    kept = {image["id"] for image in content["images"]}
    of_kept = [a for a in content["annotations"] if a["image_id"] in kept]
    assert any(annotation["iscrowd"] for annotation in of_kept)
    content["annotations"] = of_kept
    path = tmp_path_factory.mktemp("golden") / "truth.json"
    path.write_text(json.dumps(content))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
    return path, truth, [result for result in results if result["image_id"] in kept]


def pycocotools_recall(truth: COCO, results: list[dict[str, Any]]) -> np.ndarray:
    """Returns [thresholds, sizes, limits], by the library's own settings for proposals."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = [10, 100, 1000]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["recall"][:, 0]


@pytest.mark.slow
def test_equals_pycocotools_on_cocos_own_fixture(
    golden: tuple[Path, COCO, list[dict[str, Any]]], tmp_path: Path
) -> None:
    path, truth, results = golden
    # A dozen copies of each, worse and worse scored, reach the limits of 10 and 100.
    results = [
        {**result, "score": result["score"] * 0.9**copy} for copy in range(12) for result in results
    ]
    images = {}
    for image in truth.dataset["images"]:
        of_image = [result for result in results if result["image_id"] == image["id"]]
        images[image["id"]] = instances_of(of_image, (image["height"], image["width"]))
    name = f"golden_{tmp_path.name}"
    MetadataCatalog.get(name).set(json_file=str(path))
    metrics = evaluated(name, images, tmp_path)

    # float32 as in Instances, so that ties are the same.
    for result in results:
        result["score"] = float(np.float32(result["score"]))
    expected = pycocotools_recall(truth, results)
    for limit_index, limit in enumerate((10, 100, 1000)):
        for size_index, size in enumerate(("", "s", "m", "l")):
            value = 100 * expected[:, size_index, limit_index].mean()
            assert metrics[f"AR{size}@{limit}"] == pytest.approx(value, abs=1e-9)
        for row, iou in ((0, 50), (4, 70), (8, 90)):
            value = 100 * expected[row, 0, limit_index]
            assert metrics[f"R{iou}@{limit}"] == pytest.approx(value, abs=1e-9)
    assert 0 < metrics["AR@10"] < metrics["AR@100"] < 100

    curves = json.loads((tmp_path / "proposal_recall.json").read_text())
    assert curves["iou_thresholds"] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    np.testing.assert_allclose(curves["recall"]["100"], expected[:, 0, 1])
    assert (tmp_path / "proposal_recall.png").stat().st_size > 1000


def box_result(left: int, top: int, width: int, height: int, score: float) -> dict[str, Any]:
    mask = np.zeros((100, 100), np.uint8)
    mask[top : top + height, left : left + width] = 1
    return {"segmentation": mask_util.encode(np.asfortranarray(mask)), "score": score}


def two_objects(root: Path) -> CocoFolder:
    """A 10 x 10 cat, a 40 x 40 dog, and a crowd."""
    folder = CocoFolder(root, {1: "cat", 2: "dog"})
    crowd = {"size": [100, 100], "counts": [9000, 1000]}
    annotations = [
        rectangle(0, 0, 10, 10),
        rectangle(40, 40, 40, 40, category_id=2),
        rectangle(90, 0, 10, 100, iscrowd=1, segmentation=crowd),
    ]
    folder.add("one.png", noise(100, 100), annotations)
    folder.write()
    return folder


def test_by_hand(tmp_path: Path) -> None:
    """The cat is found at every threshold, the dog, at IoU 0.75, at 6 of 10."""
    name = two_objects(tmp_path / "data").write()
    results = [box_result(0, 0, 10, 10, 0.1), box_result(40, 40, 40, 30, 0.9)]
    metrics = evaluated_in_place(name, results, tmp_path)
    assert metrics["AR@10"] == pytest.approx(100 * (10 + 6) / 20)
    assert metrics["ARs@10"] == pytest.approx(100)
    assert metrics["ARm@10"] == pytest.approx(60)
    assert math.isnan(metrics["ARl@10"])
    assert (metrics["R50@10"], metrics["R90@10"]) == (100, 50)


def evaluated_in_place(name: str, results: list, output: Path) -> dict[str, float]:
    DatasetCatalog.get(name)  # registers it
    return evaluated(name, {1: instances_of(results, (100, 100))}, output)


def test_only_the_best_scored_count(tmp_path: Path) -> None:
    name = two_objects(tmp_path / "data").write()
    wrong = [box_result(20, 0, 5, 5, 0.5) for _ in range(12)]
    right = [box_result(0, 0, 10, 10, 0.4), box_result(40, 40, 40, 40, 0.6)]
    metrics = evaluated_in_place(name, [*wrong, *right], tmp_path)
    assert metrics["AR@10"] == pytest.approx(50)
    assert metrics["AR@100"] == pytest.approx(100)


def test_nothing_found(tmp_path: Path) -> None:
    name = two_objects(tmp_path / "data").write()
    metrics = evaluated_in_place(name, [], tmp_path)
    assert metrics["AR@1000"] == 0


def test_proposals_are_in_detectron2s_format(tmp_path: Path) -> None:
    name = two_objects(tmp_path / "data").write()
    results = [box_result(0, 0, 10, 10, 0.25), box_result(4, 4, 9, 9, 1.0)]
    instances = instances_of(results, (100, 100))
    instances.pred_boxes = Boxes(torch.tensor([[0.0, 0, 10, 10], [4, 4, 13, 13]]))
    DatasetCatalog.get(name)
    evaluated(name, {1: instances}, tmp_path / "output")
    (record,) = load_proposals_into_dataset(
        [{"image_id": 1}], str(tmp_path / "output" / "proposals.pkl")
    )
    assert record["proposal_boxes"].tolist() == [[4, 4, 13, 13], [0, 0, 10, 10]]
    assert record["proposal_objectness_logits"][1] == pytest.approx(math.log(0.25 / 0.75))
    assert np.isfinite(record["proposal_objectness_logits"]).all()


def test_a_dataset_without_json(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2012")
    name = f"voc_{tmp_path.name}"
    register_voc_instances(name, str(root), "val")
    images = {}
    for record in DatasetCatalog.get(name):
        results = [
            {"segmentation": annotation["segmentation"], "score": 0.5}
            for annotation in record["annotations"]
        ]
        images[record["image_id"]] = instances_of(results, (record["height"], record["width"]))
    assert evaluated(name, images, tmp_path / "output")["AR@10"] == 100
    (image_id, instances), *_ = images.items()
    images[image_id] = instances[:0]
    assert evaluated(name, images, tmp_path / "output")["AR@10"] < 100
