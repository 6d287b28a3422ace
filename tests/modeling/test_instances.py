"""detectron2's fields, and what they hold."""

import pytest
import torch

from solo_family.modeling.instances import make_instances


def test_fields() -> None:
    masks = torch.zeros((3, 20, 30), dtype=torch.bool)
    masks[0, 2:5, 7:11] = True
    masks[1, 19, 29] = True
    scores = torch.tensor([0.9, 0.8, 0.3])
    result = make_instances(masks, scores, torch.tensor([4, 0, 2]))
    assert result.image_size == (20, 30)
    assert set(result.get_fields()) == {"pred_masks", "pred_boxes", "scores", "pred_classes"}
    assert torch.equal(result.pred_masks, masks)
    assert torch.equal(result.scores, scores)
    assert result.pred_classes.tolist() == [4, 0, 2]
    # The third mask has no pixels.
    assert result.pred_boxes.tensor.tolist() == [[7, 2, 11, 5], [29, 19, 30, 20], [0, 0, 0, 0]]


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtypes_and_shapes_are_the_same_with_and_without_objects(count: int, dtype) -> None:
    result = make_instances(
        torch.ones((count, 6, 8), dtype=torch.bool),
        torch.ones(count, dtype=dtype),
        torch.zeros(count, dtype=torch.int64),
    )
    assert len(result) == count
    assert (result.pred_masks.shape, result.pred_masks.dtype) == ((count, 6, 8), torch.bool)
    assert result.pred_boxes.tensor.shape == (count, 4)
    assert result.pred_boxes.tensor.dtype == result.scores.dtype == torch.float32
    assert (result.pred_classes.shape, result.pred_classes.dtype) == ((count,), torch.int64)
