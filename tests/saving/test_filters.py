"""Which predictions are drawn and saved."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from solo_family.errors import ConfigError
from solo_family.ops.run_masks import RunMasks
from solo_family.ops.runs import runs_of
from solo_family.ops.window import Window
from solo_family.saving.filters import Filters, find_labels

MASKS = np.zeros((3, 6, 8), bool)
MASKS[0, 1:4, 1:4] = True
MASKS[1, 2:6, 2:8] = True
MASKS[2, 2, 2] = True


def instances(in_runs: bool = False) -> Instances:
    masks = torch.from_numpy(MASKS)
    runs = RunMasks(runs_of(masks, Window(0, 0, 6, 8), 6), (6, 8))
    return Instances(
        (6, 8),
        pred_masks=runs if in_runs else masks,
        pred_boxes=Boxes(torch.zeros(3, 4)),
        scores=torch.tensor([0.6, 0.9, 0.7]),
        pred_classes=torch.tensor([0, 1, 1]),
    )


@pytest.mark.parametrize("in_runs", [False, True])
def test_overlapping_pixels_go_to_the_highest_score(in_runs: bool) -> None:
    kept = Filters(no_overlap=True)({"instances": instances(in_runs)})["instances"]
    assert kept.scores.tolist() == pytest.approx([0.6, 0.9])  # nothing is left of the third
    np.testing.assert_array_equal(kept.pred_masks.numpy(), [MASKS[0] & ~MASKS[1], MASKS[1]])
    assert kept.pred_boxes.tensor.tolist() == [[1, 1, 4, 4], [2, 2, 8, 6]]


@pytest.mark.parametrize("in_runs", [False, True])
def test_small_objects_and_other_classes_are_dropped(in_runs: bool) -> None:
    given = {"instances": instances(in_runs)}
    assert Filters(min_size=9)(given)["instances"].pred_classes.tolist() == [0, 1]
    assert Filters(labels=(1,))(given)["instances"].scores.tolist() == pytest.approx([0.9, 0.7])


def test_panoptic_segments_and_semantic_classes_are_dropped() -> None:
    ids = torch.tensor([[1, 1, 2], [3, 3, 3]])
    infos = [{"id": number, "category_id": number - 1} for number in (1, 2, 3)]
    scores = torch.nn.functional.one_hot(ids - 1).permute(2, 0, 1).float()
    given = {"panoptic_seg": (ids, infos), "sem_seg": scores}
    kept = Filters(labels=(1, 2), min_size=2)(given)
    assert kept["panoptic_seg"][0].tolist() == [[0, 0, 0], [3, 3, 3]]
    assert kept["panoptic_seg"][1] == [{"id": 3, "category_id": 2}]
    assert kept["sem_seg"].argmax(dim=0).tolist() == [[3, 3, 1], [2, 2, 2]]


def test_classes_are_found_by_name_or_label() -> None:
    assert find_labels(["pear", "0", 1], ["apple", "pear"]) == [1, 0, 1]
    assert find_labels(np.array([1, 0]), ["apple", "pear"]) == [1, 0]
    with pytest.raises(ConfigError, match=r"'plum'.*apple, pear"):
        find_labels(["plum"], ["apple", "pear"])
