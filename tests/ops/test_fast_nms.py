import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solo_family.ops import fast_nms

from .test_mask_nms import Candidates, candidates


def reference_keep(
    inputs: Candidates,
    iou_threshold: float,
    pre_nms: int | None,
    post_nms: int | None,
    class_agnostic: bool,
) -> list[int]:
    masks, labels, scores = inputs.masks.numpy(), inputs.labels.tolist(), inputs.scores.tolist()
    order = sorted(range(len(scores)), key=lambda n: -scores[n])[:pre_nms]
    keep = []
    for place, n in enumerate(order):
        better = [k for k in order[:place] if class_agnostic or labels[k] == labels[n]]
        overlaps = [
            (masks[k] & masks[n]).sum() / max((masks[k] | masks[n]).sum(), 1) for k in better
        ]
        if scores[n] >= 0.05 and all(iou <= iou_threshold for iou in overlaps):
            keep.append(n)
    return keep[:post_nms]


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    inputs=candidates(),
    iou_threshold=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    pre_nms=st.sampled_from([None, 1, 5]),
    post_nms=st.sampled_from([None, 0, 2]),
    class_agnostic=st.booleans(),
)
def test_matches_the_reference(
    inputs: Candidates,
    iou_threshold: float,
    pre_nms: int | None,
    post_nms: int | None,
    class_agnostic: bool,
) -> None:
    keep, scores = fast_nms(
        *inputs,
        iou_threshold=iou_threshold,
        pre_nms=pre_nms,
        post_nms=post_nms,
        class_agnostic=class_agnostic,
    )
    expected = reference_keep(inputs, iou_threshold, pre_nms, post_nms, class_agnostic)
    assert keep.tolist() == expected
    assert torch.equal(scores, inputs.scores[keep].float())


def test_a_dropped_mask_drops_others() -> None:
    """Where greedy NMS keeps the third: the second, which overlaps it, is gone itself."""
    masks = torch.zeros(3, 1, 8, dtype=torch.bool)
    for n in range(3):
        masks[n, 0, n : n + 4] = True
    keep, _ = fast_nms(masks, torch.zeros(3, dtype=torch.int64), torch.tensor([0.9, 0.8, 0.7]))
    assert keep.tolist() == [0]


def test_probabilities_are_an_error() -> None:
    with pytest.raises(ValueError, match="must be bool"):
        fast_nms(torch.rand(1, 4, 4), torch.zeros(1, dtype=torch.int64), torch.ones(1))
