import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solo_family.ops import soft_nms

from .test_mask_nms import Candidates, candidates


def reference_scores(
    inputs: Candidates, kernel: str, pre_nms: int | None, class_agnostic: bool
) -> dict[int, float]:
    """Returns the lowered score of every mask that takes part, one pick after another."""
    masks, labels = inputs.masks.numpy(), inputs.labels.tolist()
    first = sorted(range(len(labels)), key=lambda n: -float(inputs.scores[n]))[:pre_nms]
    left = {n: float(inputs.scores[n]) for n in first}
    lowered = {}
    while left:
        best = max(left, key=lambda n: left[n])  # of equal ones, the first
        lowered[best] = left.pop(best)
        for n in left:
            union = (masks[best] | masks[n]).sum()
            iou = float((masks[best] & masks[n]).sum() / union) if union else 0.0
            if class_agnostic or labels[best] == labels[n]:
                linear = 1 - iou if iou >= 0.5 else 1
                left[n] *= math.exp(-2 * iou**2) if kernel == "gaussian" else linear
    return lowered


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    inputs=candidates(),
    kernel=st.sampled_from(["gaussian", "linear"]),
    pre_nms=st.sampled_from([None, 1, 5]),
    post_nms=st.sampled_from([None, 0, 2]),
    class_agnostic=st.booleans(),
)
def test_matches_the_reference(
    inputs: Candidates,
    kernel: str,
    pre_nms: int | None,
    post_nms: int | None,
    class_agnostic: bool,
) -> None:
    keep, scores = soft_nms(
        *inputs,
        kernel=kernel,
        pre_nms=pre_nms,
        post_nms=post_nms,
        threshold=0.04,
        class_agnostic=class_agnostic,
    )
    lowered = reference_scores(inputs, kernel, pre_nms, class_agnostic)
    expected = sorted((score for score in lowered.values() if score >= 0.04), reverse=True)
    assert scores.tolist() == pytest.approx(expected[:post_nms], abs=1e-6)
    assert [lowered[n] for n in keep.tolist()] == pytest.approx(scores.tolist(), abs=1e-6)
    assert len(set(keep.tolist())) == len(keep)


def test_a_duplicate_is_lowered_and_not_dropped() -> None:
    masks = torch.ones(2, 3, 3, dtype=torch.bool)
    labels, scores = torch.zeros(2, dtype=torch.int64), torch.tensor([0.6, 0.9])
    keep, found = soft_nms(masks, labels, scores)
    assert keep.tolist() == [1, 0]
    assert found.tolist() == pytest.approx([0.9, 0.6 * math.exp(-2)])


def test_unknown_kernels_and_probabilities_are_errors() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ValueError, match="cubic"):
        soft_nms(torch.zeros(0, 2, 2, dtype=torch.bool), none, none.float(), kernel="cubic")
    with pytest.raises(ValueError, match="must be bool"):
        soft_nms(torch.rand(1, 4, 4), torch.zeros(1, dtype=torch.int64), torch.ones(1))
