"""The threshold, and COCO results."""

import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util

from solo_family.modeling.instances import make_instances
from solo_family.ops.run_masks import RunMasks, whole_runs
from solo_family.predictor.predictions import coco_results, describe, keep_confident


def _instances(scores: list[float]) -> Instances:
    """One square for each score, each a pixel further right than the one before."""
    masks = torch.zeros(len(scores), 10, 20, dtype=torch.bool)
    for index in range(len(scores)):
        masks[index, 2:5, index : index + 4] = True
    return Instances(
        (10, 20),
        pred_masks=masks,
        scores=torch.tensor(scores),
        pred_classes=torch.arange(len(scores)),
    )


def test_the_threshold_is_the_least_score_kept() -> None:
    kept = keep_confident({"instances": _instances([0.9, 0.5, 0.25])}, threshold=0.5)
    assert kept["instances"].pred_classes.tolist() == [0, 1]
    assert describe(kept) == "2 instances"
    none = keep_confident(kept, threshold=1.0)
    assert describe(none) == "0 instances"
    assert coco_results(none, 1, Metadata()) == []


def test_only_what_is_kept_is_copied_from_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []
    to = Instances.to
    monkeypatch.setattr(
        Instances, "to", lambda its, device: copied.append(len(its)) or to(its, device)
    )
    keep_confident({"instances": _instances([0.9, 0.5, 0.25, 0.0])}, threshold=0.5)
    assert copied == [2]


def test_instances_without_a_pixel_are_dropped() -> None:
    instances = _instances([0.9, 0.75, 0.5])
    instances.pred_masks[1] = False
    kept = keep_confident({"instances": instances}, threshold=0.0)
    assert kept["instances"].pred_classes.tolist() == [0, 2]
    assert describe(kept) == "2 instances"
    in_runs = _instances([0.9, 0.75])
    in_runs.pred_masks[0] = False
    masks = RunMasks(whole_runs(in_runs.pred_masks), (10, 20))
    found = make_instances(masks, in_runs.scores, in_runs.pred_classes)
    assert keep_confident({"instances": found}, 0.0)["instances"].pred_classes.tolist() == [1]
    only = keep_confident({"instances": instances[1:2]}, 0.0)["instances"]
    assert len(only) == 0
    assert only.pred_masks.shape == (0, 10, 20)


def test_the_threshold_drops_segments_but_not_stuff() -> None:
    infos = [{"id": 1, "score": 0.2}, {"id": 2, "score": 0.8}, {"id": 3}]
    segments = torch.tensor([[1, 2], [3, 0]], dtype=torch.int32)
    left, kept = keep_confident({"panoptic_seg": (segments, infos)}, 0.5)["panoptic_seg"]
    assert [info["id"] for info in kept] == [2, 3]
    # A pixel never has the number of a segment that is not described.
    assert left.tolist() == [[0, 2], [3, 0]]
    assert left.dtype == torch.int32
    assert segments.tolist() == [[1, 2], [3, 0]]
    _, kept = keep_confident({"panoptic_seg": (segments, None)}, 0.5)["panoptic_seg"]
    assert kept is None


def test_coco_results_decode_to_the_masks() -> None:
    instances = _instances([0.9, 0.75])
    metadata = Metadata(thing_dataset_id_to_contiguous_id={17: 0, 90: 1})
    results = coco_results(keep_confident({"instances": instances}, 0.0), 7, metadata)
    assert [result["category_id"] for result in results] == [17, 90]
    assert {result["image_id"] for result in results} == {7}
    assert [result["bbox"] for result in results] == [[0, 2, 4, 3], [1, 2, 4, 3]]
    np.testing.assert_allclose([result["score"] for result in results], [0.9, 0.75])
    for result, mask in zip(results, instances.pred_masks):
        assert isinstance(result["segmentation"]["counts"], str)
        np.testing.assert_array_equal(mask_util.decode(result["segmentation"]), mask.numpy())


def test_the_models_own_boxes_are_kept_and_categories_without_a_mapping() -> None:
    instances = _instances([0.9])
    instances.pred_boxes = Boxes(torch.tensor([[1.0, 2.0, 9.5, 4.0]]))
    (result,) = coco_results(keep_confident({"instances": instances}, 0.0), 1, Metadata())
    assert result["bbox"] == [1.0, 2.0, 8.5, 2.0]
    assert result["category_id"] == 0
