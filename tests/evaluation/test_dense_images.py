"""AP of an image with more objects than COCO's 100 detections, by every way of evaluating."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from solo_family.config import get_cfg
from solo_family.config.caps import instances_per_image
from solo_family.data.formats.register import register_in_place
from solo_family.evaluation.build import build_evaluator
from solo_family.evaluation.kinds import coco_evaluator
from solo_family.evaluation.proposal_recall import ProposalRecallEvaluator

from ..coco_folder import CocoFolder
from ..conftest import tiny_cfg, tiny_model

SIDE, COUNT = 20, 300  # squares in rows of 20


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> CocoFolder:
    folder = CocoFolder(tmp_path_factory.mktemp("dense") / "data", {1: "square"})
    annotations = []
    for index in range(COUNT):
        x, y = index % 20 * SIDE, index // 20 * SIDE
        ring = [x, y, x + 15, y, x + 15, y + 15, x, y + 15]
        annotations.append(
            {
                "category_id": 1,
                "segmentation": [ring],
                "bbox": [x, y, 15, 15],
                "area": 225,
                "iscrowd": 0,
            }
        )
    folder.add("dense.png", Image.new("RGB", (400, 300)), annotations)
    folder.write()
    return folder


def perfect() -> Instances:
    """Return all squares, as a model returns them."""
    masks = torch.zeros(COUNT, 300, 400, dtype=torch.bool)
    for index in range(COUNT):
        x, y = index % 20 * SIDE, index // 20 * SIDE
        masks[index, y : y + 15, x : x + 15] = True
    ys, xs = torch.arange(COUNT) // 20 * SIDE, torch.arange(COUNT) % 20 * SIDE
    boxes = torch.stack([xs, ys, xs + 15, ys + 15], 1).float()
    return Instances(
        (300, 400),
        pred_masks=masks,
        pred_boxes=Boxes(boxes),
        scores=torch.linspace(1, 0.5, COUNT),
        pred_classes=torch.zeros(COUNT, dtype=torch.long),
    )


@pytest.mark.parametrize(
    "library", ["hotcoco", pytest.param("pycocotools", marks=pytest.mark.slow)]
)
def test_evaluators_do_not_cap_it(
    squares: CocoFolder,
    tmp_path: Path,
    library: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register_in_place([squares.name])
    cfg = tiny_cfg("SOLOv2", opts=["TEST.COCO_LIBRARY", library])
    evaluator = build_evaluator(cfg, squares.name, str(tmp_path))
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"instances": perfect()}])
    asked: list[Any] = []
    is_storage = torch.is_storage
    with caplog.at_level("INFO"), monkeypatch.context() as patch:
        patch.setattr(torch, "is_storage", lambda one: asked.append(one) or is_storage(one))
        results = evaluator.evaluate()["segm"]
    assert not asked  # by torch's pickler, about each number
    assert results["AP"] == pytest.approx(100, abs=0.1)
    assert "segm AP (maxDets=300): of the best 300 detections" in caplog.text
    assert f"Evaluating predictions with {library}." in caplog.text
    # The files of detectron2's evaluator, of which torch reads one.
    (stored,) = torch.load(tmp_path / "instances_predictions.pth", weights_only=True)
    written = json.loads((tmp_path / "coco_instances_results.json").read_text(encoding="utf-8"))
    assert stored["image_id"] == 1
    assert [one["score"] for one in stored["instances"]] == [one["score"] for one in written]
    assert len(written) == COUNT


def test_nothing_predicted_is_an_ap_of_0_with_a_reason(
    squares: CocoFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register_in_place([squares.name])
    evaluator = coco_evaluator(squares.name, str(tmp_path))
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"instances": perfect()[:0]}])
    assert evaluator.evaluate()["segm"]["AP"] == 0
    assert "No instance was predicted on any image, so the segm AP is 0" in caplog.text


def test_no_image_at_all_is_said(
    squares: CocoFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register_in_place([squares.name])
    evaluator = coco_evaluator(squares.name, str(tmp_path / "new"))
    evaluator.reset()
    assert evaluator.evaluate() == {}
    assert "Did not receive valid predictions" in caplog.text
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_recall_counts_as_many_as_the_model_returns(squares: CocoFolder, tmp_path: Path) -> None:
    register_in_place([squares.name])
    cfg = tiny_cfg("SOLOv2", opts=["TEST.PROPOSAL_RECALL", True, "TEST.DETECTIONS_PER_IMAGE", 2000])
    cfg.defrost()
    cfg.MODEL.SOLOV2.NMS_PRE = 2000
    cfg.MODEL.SOLOV2.NUM_GRIDS = [40, 36, 24, 16, 12]
    evaluator = build_evaluator(cfg, squares.name, str(tmp_path))
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"instances": perfect()}])
    recall = evaluator.evaluate()["proposals"]
    assert recall["AR@100"] == pytest.approx(100 / 3)
    assert recall["AR@2000"] == pytest.approx(100)
    usual = ProposalRecallEvaluator(squares.name, str(tmp_path), most=1000)
    usual.reset()
    usual.process([{"image_id": 1}], [{"instances": perfect()}])
    assert "AR@2000" not in usual.evaluate()["proposals"]


@pytest.mark.parametrize(
    ("method", "key", "attribute"),
    [
        ("SOLO", "MODEL.SOLO.MAX_PER_IMG", "post_nms"),
        ("SOLOv2", "MODEL.SOLOV2.MAX_PER_IMG", "post_nms"),
        ("SparseInst", "MODEL.SPARSE_INST.MAX_DETECTIONS", "max_detections"),
    ],
)
def test_one_key_rules_what_a_model_returns(method: str, key: str, attribute: str) -> None:
    assert instances_per_image(get_cfg(), key) == 100
    model = tiny_model(method, opts=["TEST.DETECTIONS_PER_IMAGE", 700])
    assert getattr(model.selector, attribute) == 700
    model = tiny_model(method, opts=["TEST.DETECTIONS_PER_IMAGE", 700, key, 30])
    assert getattr(model.selector, attribute) == 30
