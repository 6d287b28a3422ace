"""The class of every pixel: what torch's argmax finds, in another way."""

import pytest
import torch

from solo_family.ops.label_maps import COLUMNS, class_of_pixels


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("size", [(3, 5), (1, COLUMNS), (40, 67)])
@pytest.mark.parametrize("classes", [1, 2, 300])
def test_the_greatest_wins_and_of_equal_ones_the_first(
    dtype: torch.dtype, size: tuple[int, int], classes: int
) -> None:
    generator = torch.Generator().manual_seed(classes)
    scores = torch.randint(-9, 9, (classes, *size), generator=generator).to(dtype)
    scores[0, 0, 0] = -torch.inf
    given = scores.clone()
    # numpy's takes the first; torch's promises nothing.
    expected = torch.from_numpy(scores.double().numpy().argmax(0))
    found = class_of_pixels(scores)
    assert found.dtype == torch.int64
    assert torch.equal(found, expected)
    assert torch.equal(scores, given)


def test_scores_may_lie_in_memory_in_any_order() -> None:
    scores = torch.rand(50, 60, 7).permute(2, 0, 1)
    assert torch.equal(class_of_pixels(scores), scores.argmax(0))
    assert torch.equal(class_of_pixels(scores[:, ::2, 3:]), scores[:, ::2, 3:].argmax(0))


def test_nan_is_the_greatest_as_for_torch() -> None:
    scores = torch.rand(7, 50, 60)
    scores[3, 4, 5] = torch.nan
    found = class_of_pixels(scores)
    assert found[4, 5] == 3
    assert torch.equal(found, scores.argmax(0))


def test_a_map_without_pixels() -> None:
    assert class_of_pixels(torch.zeros(3, 0, 5)).shape == (0, 5)
