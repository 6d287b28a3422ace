import itertools
import math

import pytest
import torch
from torch import Tensor

from solo_family.modeling.matcher import Matches, hungarian_matching
from solo_family.ops.host_copy import HostCopy

from ..waits import count_waits


def match(cost: Tensor) -> tuple[Tensor, Tensor]:
    """Matches one image in one layer."""
    matches = hungarian_matching(HostCopy(cost[None, None]), [cost.shape[1]])
    assert matches.counts == [min(cost.shape)]
    return matches.predictions[0], matches.objects[0]


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
    predictions, objects = match(cost)
    assert len(predictions) == len(objects) == min(shape)
    assert len(set(predictions.tolist())) == len(set(objects.tolist())) == min(shape)
    assert cost[predictions, objects].sum().item() == pytest.approx(least_total(cost), abs=1e-5)


@pytest.mark.parametrize(("shape", "copies"), [((5, 2), 2), ((6, 2), 3), ((4, 3), 2), ((3, 1), 5)])
def test_copies_are_matched_as_objects_of_their_own(shape: tuple[int, int], copies: int) -> None:
    cost = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    cost[0, 0] = math.nan
    matches = hungarian_matching(HostCopy(cost[None, None]), [shape[1]], copies)
    predictions, objects = matches.predictions[0], matches.objects[0]
    assert matches.counts == [min(shape[0], copies * shape[1])] == [len(predictions)]
    assert len(set(predictions.tolist())) == len(predictions)
    assert max(objects.tolist().count(index) for index in range(shape[1])) <= copies
    known = cost.nan_to_num(1000.0)
    total = known[predictions, objects].sum().item()
    assert total == pytest.approx(least_total(torch.cat([known] * copies, 1)), abs=1e-3)


def test_layers_and_images_are_matched_each_on_its_own() -> None:
    torch.manual_seed(0)
    costs, counts = torch.randn(3, 4, 4, 5), [2, 0, 5, 4]
    # What follows an image's own objects is not looked at.
    costs[:, 0, :, 2:] = -1000
    matches = hungarian_matching(HostCopy(costs), counts)
    assert matches.counts == [2, 0, 4, 4]
    for layer in range(3):
        first_pair = first_object = 0
        for image, count in enumerate(counts):
            predictions, objects = match(costs[layer, image, :, :count])
            pairs = slice(first_pair, first_pair + len(objects))
            assert torch.equal(matches.predictions[layer, pairs], 4 * image + predictions)
            assert torch.equal(matches.objects[layer, pairs], first_object + objects)
            first_pair += len(objects)
            first_object += count
        assert first_pair == matches.objects.shape[1]


@pytest.mark.parametrize("shape", [(4, 0), (0, 3), (0, 0)])
def test_without_objects_the_indices_are_empty_integers(shape: tuple[int, int]) -> None:
    predictions, objects = match(torch.zeros(shape))
    for indices in (predictions, objects):
        assert indices.shape == (0,)
        assert indices.dtype == torch.int64
        assert indices.device == torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    cost = torch.randn(5, 3, generator=torch.Generator().manual_seed(3)).to(dtype)
    assert all(map(torch.equal, match(cost), match(cost.float())))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_cost_that_is_not_finite_is_avoided(bad: float) -> None:
    # The diagonal is free but for its last place; around it lie two pairs of the highest cost.
    cost = torch.full((3, 3), 300.0).fill_diagonal_(0)
    cost[2, 2] = bad
    predictions, objects = match(cost)
    assert cost[predictions, objects].sum() == 600


def test_nothing_but_nan_still_matches() -> None:
    predictions, objects = match(torch.full((3, 2), math.nan))
    assert len(set(predictions.tolist())) == 2
    assert sorted(objects.tolist()) == [0, 1]


def test_one_wait_for_all_layers_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    original = HostCopy.wait
    monkeypatch.setattr(HostCopy, "wait", lambda self: waits.append(self) or original(self))
    costs = HostCopy(torch.zeros(6, 8, 3, 4))
    with count_waits() as others:
        matches = hungarian_matching(costs, [2, 0, 4, 1, 1, 1, 1, 1])
    assert isinstance(matches, Matches)
    assert waits == [costs]
    # Here the costs are read where they are; on a GPU it is their copy that is read.
    assert others.total == 1
