import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from solo_family.ops.point_nms import point_nms


def reference_point_nms(scores: np.ndarray) -> np.ndarray:
    kept = np.zeros_like(scores)
    for b, k, row, column in np.ndindex(*scores.shape):
        neighbourhood = scores[b, k, max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1]
        if scores[b, k, row, column] == neighbourhood.max():
            kept[b, k, row, column] = scores[b, k, row, column]
    return kept


# Eighths are exact in every float dtype, and often tied; logits may be negative.
SCORES = st.integers(1, 5).flatmap(
    lambda side: hnp.arrays(np.float32, (2, 2, side, side), elements=st.integers(-8, 8))
)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(scores=SCORES, dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
def test_matches_the_reference(scores: np.ndarray, dtype: torch.dtype) -> None:
    kept = point_nms(torch.from_numpy(scores / 8).to(dtype))
    assert kept.dtype == dtype
    np.testing.assert_array_equal(kept.float().numpy(), reference_point_nms(scores / 8))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[0.9, 0.1], [0.1, 0.8]], [[0.9, 0.0], [0.0, 0.0]]),
        ([[0.1, 0.2], [0.3, 0.4]], [[0.1, 0.2], [0.3, 0.4]]),
        ([[0.1, 0.9], [0.8, 0.1]], [[0.1, 0.9], [0.8, 0.0]]),
        ([[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]]),
    ],
    ids=["falling", "rising", "other diagonal", "tied"],
)
def test_looks_up_and_left_only(scores: list[list[float]], expected: list[list[float]]) -> None:
    assert torch.equal(point_nms(torch.tensor([[scores]])), torch.tensor([[expected]]))


def test_what_is_no_number_is_no_largest_one() -> None:
    """Nor is anything that is compared with it."""
    scores = torch.tensor([[[[0.5, torch.nan, 0.9], [0.4, 0.6, 0.7], [0.8, 0.1, 0.9]]]])
    expected = torch.tensor([[[[0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [0.8, 0.0, 0.9]]]])
    assert torch.equal(point_nms(scores), expected)


def test_no_images() -> None:
    assert point_nms(torch.zeros(0, 2, 3, 3)).shape == (0, 2, 3, 3)
