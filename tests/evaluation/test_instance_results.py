"""COCO results of instances, against detectron2's own."""

import pytest
import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import BitMasks, Boxes, Instances

from solo_family.evaluation.instance_results import InstanceEvaluator, instance_results


def found(count: int) -> Instances:
    generator = torch.Generator().manual_seed(0)
    instances = Instances((9, 14))
    instances.pred_masks = torch.rand(count, 9, 14, generator=generator) < 0.4
    instances.pred_boxes = Boxes(10 * torch.rand(count, 4, generator=generator))
    instances.scores = torch.rand(count, generator=generator)
    instances.pred_classes = torch.arange(count)
    return instances


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_same_results(count: int) -> None:
    assert instance_results(found(count), 7) == instances_to_coco_json(found(count), 7)


def test_the_instances_stay_as_they_were() -> None:
    instances = found(2)
    instance_results(instances, 7)
    assert instances.has("pred_masks")


def test_bit_masks_and_boxes_alone() -> None:
    instances = found(3)
    instances.pred_masks = BitMasks(instances.pred_masks)
    assert instance_results(instances, 7) == instances_to_coco_json(found(3), 7)
    instances.remove("pred_masks")
    assert instance_results(instances, 7) == instances_to_coco_json(instances, 7)


def test_what_the_evaluator_keeps() -> None:
    evaluator = object.__new__(InstanceEvaluator)
    evaluator.reset()
    evaluator.process(
        [{"image_id": 7}, {"image_id": 8}, {"image_id": 9}],
        [{"instances": found(2)}, {"sem_seg": torch.zeros(1)}, {"proposals": found(1)}],
    )
    first, second = evaluator._predictions
    assert first == {"image_id": 7, "instances": instances_to_coco_json(found(2), 7)}
    assert (second["image_id"], len(second["proposals"])) == (9, 1)
