import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from solo_family.ops.mask_boxes import masks_to_boxes

MASKS = hnp.arrays(bool, st.tuples(st.integers(0, 4), st.integers(1, 6), st.integers(1, 6)))


def reference_boxes(masks: np.ndarray) -> np.ndarray:
    boxes = np.zeros((len(masks), 4), dtype=np.float32)
    for n, mask in enumerate(masks):
        rows, columns = np.nonzero(mask)
        if len(rows):
            boxes[n] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return boxes


@settings(deadline=None, max_examples=200, derandomize=True)
@given(MASKS)
def test_matches_the_references(masks: np.ndarray) -> None:
    boxes = masks_to_boxes(torch.from_numpy(masks))
    assert boxes.dtype == torch.float32
    np.testing.assert_array_equal(boxes.numpy(), reference_boxes(masks))
    assert torch.equal(boxes, BitMasks(torch.from_numpy(masks)).get_bounding_boxes().tensor)


def test_one_pixel_and_a_hole() -> None:
    masks = torch.zeros(3, 5, 7, dtype=torch.bool)
    masks[0, 3, 2] = True
    masks[1, 0, 0] = masks[1, 4, 6] = True
    assert masks_to_boxes(masks).tolist() == [[2, 3, 3, 4], [0, 0, 7, 5], [0, 0, 0, 0]]


@pytest.mark.parametrize("size", [(5, 7), (0, 0)])
def test_no_masks(size: tuple[int, int]) -> None:
    boxes = masks_to_boxes(torch.zeros(0, *size, dtype=torch.bool))
    assert boxes.shape == (0, 4)
    assert boxes.dtype == torch.float32
