"""Run lengths of masks, against counting pixel after pixel."""

import importlib

import pytest
import torch
from torch import Tensor

from solo_family.ops import run_lengths

module = importlib.import_module("solo_family.ops.run_lengths")


def counted(mask: Tensor) -> list[int]:
    runs, value = [0], False
    for pixel in mask.t().flatten().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def random_masks(count: int, size: tuple[int, int], share: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(count, *size, generator=generator) < share
    for index, mask in enumerate(masks[: count // 2]):
        mask[: index % (size[0] + 1)] = False
        mask[:, : index % (size[1] + 1)] = False
    return masks


@pytest.fixture(params=["by rows", "whole"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done on a CPU, and what on other devices."""
    if request.param == "whole":
        monkeypatch.setattr(module, "_changes_in_rows", module._changes)


def assert_runs(masks: Tensor) -> None:
    lengths, counts = run_lengths(masks)
    assert [part.tolist() for part in lengths.split(counts.tolist())] == list(map(counted, masks))


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (7, 5), (23, 31)])
def test_runs(size: tuple[int, int], share: float) -> None:
    assert_runs(random_masks(9, size, share))


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("corner", [(0, 0), (0, 6), (4, 0), (4, 6), (2, 3)])
def test_single_pixels(corner: tuple[int, int]) -> None:
    masks = torch.zeros(3, 5, 7, dtype=torch.bool)
    masks[1][corner] = True
    assert_runs(masks)
    assert_runs(~masks)


@pytest.mark.usefixtures("either_way")
def test_a_few_masks_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_BYTES", 3 * 35 * 2)
    assert_runs(random_masks(9, (5, 7), 0.5))


@pytest.mark.parametrize("searched", [1, 2, 5, 32])
def test_rows_with_pixels_are_found(searched: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SEARCHED_ROWS", searched)
    for first in range(7):
        for stop in range(first + 1, 8):
            mask = torch.zeros(7, 3, dtype=torch.bool)
            mask[first, 1] = mask[stop - 1, 2] = True
            assert module._occupied_rows(mask.numpy()) == (first, stop)
            assert_runs(mask[None])


@pytest.mark.usefixtures("either_way")
def test_other_strides() -> None:
    masks = random_masks(6, (9, 14), 0.5)
    assert_runs(masks.transpose(1, 2)[::2, 1:])


@pytest.mark.usefixtures("either_way")
def test_no_masks() -> None:
    lengths, counts = run_lengths(torch.zeros(0, 5, 7, dtype=torch.bool))
    assert (lengths.tolist(), counts.tolist()) == ([], [])
