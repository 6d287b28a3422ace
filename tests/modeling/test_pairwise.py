"""Sums of every pair of masks, against each pair by itself in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor

from solo_family.modeling import pairwise
from solo_family.modeling.pairwise import pairwise_dice, pairwise_focal_and_dice

# Pixels that four chunks share, that none can, and of whole groups of four that nothing divides.
SIZES = [(8, 12), (5, 7), (4, 13)]


@pytest.fixture(params=[2**62, 16, 1])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setitem(pairwise._LEAST_PIXELS, "cpu", request.param)
    return request.param


def scene(size: tuple[int, int], kind: str) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 4, *size) * 4, torch.rand(2, 3, *size)
    return logits, targets > 0.5 if kind == "bool" else targets


def pairs(
    logits: Tensor, targets: Tensor
) -> list[tuple[tuple[int, int, int], np.ndarray, np.ndarray]]:
    return [
        ((b, n, g), x.double().numpy(), q.double().numpy())
        for b, (predicted, true) in enumerate(zip(logits, targets))
        for n, x in enumerate(predicted)
        for g, q in enumerate(true)
    ]


@pytest.mark.parametrize("kind", ["bool", "soft"])
@pytest.mark.parametrize("size", SIZES)
def test_dice(size: tuple[int, int], kind: str, chunks: int) -> None:
    logits, targets = scene(size, kind)
    found = pairwise_dice(logits, targets, eps=5e-5)
    assert found.shape == (2, 4, 3)
    for place, x, q in pairs(logits, targets):
        p = 1 / (1 + np.exp(-x))
        expected = 2 * (p * q).sum() / ((p * p).sum() + (q * q).sum() + 1e-4)
        assert found[place].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("alpha", [0.25, 0.6])
@pytest.mark.parametrize("size", SIZES)
def test_focal_and_dice(size: tuple[int, int], alpha: float, chunks: int) -> None:
    logits, targets = scene(size, "bool")
    focal, dice = pairwise_focal_and_dice(logits, targets, alpha=alpha, gamma=2.0)
    assert focal.shape == dice.shape == (2, 4, 3)
    for place, x, q in pairs(logits, targets):
        p = 1 / (1 + np.exp(-x))
        of_one, of_zero = -alpha * (1 - p) ** 2 * np.log(p), (alpha - 1) * p**2 * np.log(1 - p)
        expected = np.where(q == 1, of_one, of_zero).mean()
        assert focal[place].item() == pytest.approx(expected, rel=1e-5)
        expected = (2 * (p * q).sum() + 1) / (p.sum() + q.sum() + 1)
        assert dice[place].item() == pytest.approx(expected, rel=1e-5)


def test_a_mask_that_is_right_and_sure_has_no_loss(chunks: int) -> None:
    """Without differences of large numbers, which leave their rounding behind."""
    targets = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    targets[..., 8:] = True
    logits = torch.where(targets, 30.0, -30.0)
    focal, dice = pairwise_focal_and_dice(logits, targets, alpha=0.25, gamma=2.0)
    assert 0 <= focal.item() < 1e-20
    assert dice.item() == pytest.approx(1, abs=1e-6)


def test_logits_and_targets_are_left_as_they_are(chunks: int) -> None:
    logits, targets = scene((8, 12), "soft")
    before = logits.clone(), targets.clone()
    pairwise_dice(logits, targets, eps=5e-5)
    pairwise_focal_and_dice(logits, targets, alpha=0.25, gamma=2.0)
    assert torch.equal(logits, before[0])
    assert torch.equal(targets, before[1])


@pytest.mark.parametrize(
    ("pixels", "chunks"), [(128 * 128, 16), (160 * 160, 25), (160 * 216, 32), (999, 1), (1031, 1)]
)
def test_a_gpu_is_given_many_products(pixels: int, chunks: int) -> None:
    assert pairwise._num_chunks(pixels, "cuda") == chunks
    assert pairwise._num_chunks(pixels, "cpu") == 1
