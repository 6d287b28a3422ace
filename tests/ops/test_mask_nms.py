from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from solo_family.ops.mask_nms import mask_nms


class Candidates(NamedTuple):
    masks: Tensor
    labels: Tensor
    scores: Tensor


@st.composite
def candidates(draw: st.DrawFn) -> Candidates:
    """Up to 12 masks, intervals of a row of 6 pixels, so that chains of overlaps are usual."""
    count = draw(st.integers(0, 12))
    starts = draw(hnp.arrays(np.int64, (count, 1, 1), elements=st.integers(0, 4)))
    lengths = draw(hnp.arrays(np.int64, (count, 1, 1), elements=st.integers(0, 3)))
    masks = (starts <= np.arange(6)) & (np.arange(6) < starts + lengths)
    labels = draw(hnp.arrays(np.int64, count, elements=st.integers(0, draw(st.integers(0, 3)))))
    # Sixteenths are exact in every float dtype, and often tied.
    sixteenths = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 16)))
    dtype = draw(st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
    return Candidates(
        masks=torch.from_numpy(masks),
        labels=torch.from_numpy(labels),
        scores=(torch.from_numpy(sixteenths) / 16).to(dtype),
    )


def reference_keep(
    inputs: Candidates,
    iou_threshold: float,
    pre_nms: int | None,
    post_nms: int | None,
    threshold: float,
    class_agnostic: bool,
) -> list[int]:
    masks, labels, scores = inputs.masks.numpy(), inputs.labels.tolist(), inputs.scores.tolist()
    keep: list[int] = []
    for n in sorted(range(len(scores)), key=lambda n: -scores[n])[:pre_nms]:
        rivals = [k for k in keep if class_agnostic or labels[k] == labels[n]]
        overlaps = [
            (masks[k] & masks[n]).sum() / max((masks[k] | masks[n]).sum(), 1) for k in rivals
        ]
        if scores[n] >= threshold and all(iou <= iou_threshold for iou in overlaps):
            keep.append(n)
    return keep[:post_nms]


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    inputs=candidates(),
    iou_threshold=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    pre_nms=st.sampled_from([None, 1, 5]),
    post_nms=st.sampled_from([None, 0, 2]),
    threshold=st.sampled_from([0.0, 0.05, 0.5]),
    class_agnostic=st.booleans(),
)
def test_matches_the_reference(
    inputs: Candidates,
    iou_threshold: float,
    pre_nms: int | None,
    post_nms: int | None,
    threshold: float,
    class_agnostic: bool,
) -> None:
    keep, scores = mask_nms(
        *inputs,
        iou_threshold=iou_threshold,
        pre_nms=pre_nms,
        post_nms=post_nms,
        threshold=threshold,
        class_agnostic=class_agnostic,
    )
    expected = reference_keep(inputs, iou_threshold, pre_nms, post_nms, threshold, class_agnostic)
    assert keep.dtype == torch.int64
    assert keep.tolist() == expected
    assert torch.equal(scores, inputs.scores[keep].float())


def test_a_dropped_mask_drops_nothing() -> None:
    # Each overlaps the next by 3 of 5 pixels: the second goes, so the third stays, and so on.
    masks = torch.zeros(5, 1, 8, dtype=torch.bool)
    for n in range(5):
        masks[n, 0, n : n + 4] = True
    labels = torch.zeros(5, dtype=torch.int64)
    keep, _ = mask_nms(masks, labels, torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]))
    assert keep.tolist() == [0, 2, 4]


def test_classes_suppress_each_other_only_when_agnostic() -> None:
    masks = torch.ones(2, 3, 3, dtype=torch.bool)
    labels, scores = torch.tensor([0, 1]), torch.tensor([0.4, 0.6])
    assert mask_nms(masks, labels, scores)[0].tolist() == [1, 0]
    assert mask_nms(masks, labels, scores, class_agnostic=True)[0].tolist() == [1]


def test_zero_area_masks_suppress_nothing() -> None:
    masks = torch.zeros(3, 3, 3, dtype=torch.bool)
    labels = torch.zeros(3, dtype=torch.int64)
    keep, scores = mask_nms(masks, labels, torch.tensor([0.5, 0.9, 0.5]), iou_threshold=0.0)
    assert keep.tolist() == [1, 0, 2]
    assert scores.isfinite().all()


def test_overlaps_are_exact_under_autocast() -> None:
    # The IoU is 1 pixel in 259 * 259 above the threshold, which half precision cannot tell.
    side = 259
    masks = torch.ones(2, side, side, dtype=torch.bool)
    masks[1, 0, 0] = False
    labels, scores = torch.zeros(2, dtype=torch.int64), torch.tensor([0.9, 0.8])
    area = side * side
    with torch.autocast("cpu", dtype=torch.bfloat16):
        above, _ = mask_nms(masks, labels, scores, iou_threshold=(area - 2) / area)
        below, _ = mask_nms(masks, labels, scores, iou_threshold=(area - 0.5) / area)
    assert above.tolist() == [0]
    assert below.tolist() == [0, 1]


def test_no_masks() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    keep, scores = mask_nms(torch.zeros(0, 4, 4, dtype=torch.bool), none, none.half())
    assert keep.shape == scores.shape == (0,)
    assert keep.dtype == torch.int64
    assert scores.dtype == torch.float32


def test_rejects_probabilities() -> None:
    with pytest.raises(ValueError, match="must be bool"):
        mask_nms(torch.rand(1, 4, 4), torch.zeros(1, dtype=torch.int64), torch.ones(1))
