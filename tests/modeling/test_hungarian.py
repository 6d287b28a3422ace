import itertools
import math

import pytest
import torch
from torch import Tensor

from solo_family.modeling.matching.hungarian import hungarian_matching


def least_total(cost: Tensor) -> float:
    """Tries every way to pair the smaller side with different members of the larger one."""
    rows = cost.tolist() if cost.shape[0] <= cost.shape[1] else cost.T.tolist()
    columns = range(max(cost.shape))
    return min(
        sum(row[column] for row, column in zip(rows, chosen))
        for chosen in itertools.permutations(columns, len(rows))
    )


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (6, 1), (1, 1)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_total_cost_is_least(shape: tuple[int, int], seed: int) -> None:
    cost = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    ((predictions, objects),) = hungarian_matching([cost])
    assert len(predictions) == len(objects) == min(shape)
    assert len(set(predictions.tolist())) == len(set(objects.tolist())) == min(shape)
    assert cost[predictions, objects].sum().item() == pytest.approx(least_total(cost), abs=1e-5)


def test_several_images_are_matched_each_on_its_own() -> None:
    torch.manual_seed(0)
    costs = [torch.randn(4, 2), torch.randn(4, 0), torch.randn(3, 5), torch.randn(0, 2)]
    together = hungarian_matching(costs)
    for cost, match in zip(costs, together):
        (alone,) = hungarian_matching([cost])
        assert all(map(torch.equal, match, alone))


@pytest.mark.parametrize("shape", [(4, 0), (0, 3), (0, 0)])
def test_without_objects_the_indices_are_empty_integers(shape: tuple[int, int]) -> None:
    ((predictions, objects),) = hungarian_matching([torch.zeros(shape)])
    for indices in (predictions, objects):
        assert indices.shape == (0,)
        assert indices.dtype == torch.int64
        assert indices.device == torch.device("cpu")


def test_no_images() -> None:
    assert hungarian_matching([]) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    cost = torch.randn(5, 3, generator=torch.Generator().manual_seed(3)).to(dtype)
    (match,) = hungarian_matching([cost])
    assert all(map(torch.equal, match, hungarian_matching([cost.float()])[0]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_cost_that_is_not_finite_is_avoided(bad: float) -> None:
    # The diagonal is free but for its last place; around it lie two pairs of the highest cost.
    cost = torch.full((3, 3), 300.0).fill_diagonal_(0)
    cost[2, 2] = bad
    ((predictions, objects),) = hungarian_matching([cost])
    assert cost[predictions, objects].sum() == 600


def test_nothing_but_nan_still_matches() -> None:
    ((predictions, objects),) = hungarian_matching([torch.full((3, 2), math.nan)])
    assert len(set(predictions.tolist())) == 2
    assert sorted(objects.tolist()) == [0, 1]


def test_one_transfer_to_the_host_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    transfers = []
    original = Tensor.cpu

    def counted(self: Tensor) -> Tensor:
        transfers.append(self.shape)
        return original(self)

    monkeypatch.setattr(Tensor, "cpu", counted)
    for other in ("item", "tolist"):
        monkeypatch.setattr(Tensor, other, lambda self: pytest.fail("another transfer"))
    hungarian_matching([torch.zeros(3, 2), torch.zeros(3, 0), torch.zeros(3, 4)])
    assert transfers == [torch.Size([18])]
