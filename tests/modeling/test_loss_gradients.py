"""Losses whose gradient is written out, against autograd on their formulas in float64."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from solo_family.methods.mask_former.upsampled_mask_losses import upsampled_mask_losses
from solo_family.modeling.dice import dice_loss
from solo_family.modeling.focal import focal_loss

TARGETS = {
    "bool": lambda shape: torch.rand(shape) > 0.6,
    "soft": lambda shape: torch.rand(shape, dtype=torch.float64),
    "empty": lambda shape: torch.zeros(shape, dtype=torch.bool),
}


def focal(x: Tensor, t: Tensor, alpha: float, gamma: float) -> Tensor:
    p = x.sigmoid()
    p_t = p * t + (1 - p) * (1 - t)
    weight = alpha * t + (1 - alpha) * (1 - t) if alpha >= 0 else 1.0
    cross_entropy = F.softplus(x, threshold=700) - x * t
    return weight * (1 - p_t) ** gamma * cross_entropy


def dice(x: Tensor, t: Tensor, eps: float, smooth: float, power: int) -> Tensor:
    p = x.sigmoid()
    sizes = (p**power).sum((1, 2)) + (t**power).sum((1, 2)) + 2 * eps
    return 1 - (2 * (p * t).sum((1, 2)) + smooth) / (sizes + smooth)


def check(found: Tensor, expected: Tensor, logits: Tensor) -> None:
    """Compares values, and gradients with a weight for each."""
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    weights = torch.randn(found.shape, dtype=torch.float64)
    gradients = [torch.autograd.grad((weights * x).sum(), logits)[0] for x in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def numbers(*shape: int) -> Tensor:
    torch.manual_seed(0)
    return (6 * torch.randn(shape, dtype=torch.float64)).requires_grad_()


@pytest.mark.parametrize("kind", list(TARGETS))
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.4, 1.5), (0.25, 0.0), (-1, 2.0)])
def test_the_gradient_of_focal_loss(kind: str, alpha: float, gamma: float) -> None:
    logits = numbers(3, 5, 7)
    targets = TARGETS[kind]((3, 5, 7))
    found = focal_loss(logits, targets, alpha=alpha, gamma=gamma)
    check(found, focal(logits, targets.double(), alpha, gamma), logits)


@pytest.mark.parametrize("kind", list(TARGETS))
@pytest.mark.parametrize(
    ("form", "power"),
    [
        ({"eps": 1e-3, "smooth": 0.0, "squared": True}, 2),
        ({"eps": 5e-5, "smooth": 0.0, "squared": True}, 2),
        ({"eps": 0.0, "smooth": 1.0, "squared": False}, 1),
    ],
)
def test_the_gradient_of_dice_loss(kind: str, form: dict, power: int) -> None:
    logits = numbers(3, 5, 7)
    targets = TARGETS[kind]((3, 5, 7))
    expected = dice(logits, targets.double(), form["eps"], form["smooth"], power)
    check(dice_loss(logits, targets, **form), expected, logits)


@pytest.mark.parametrize("size", [1, 2, 9])
@pytest.mark.parametrize("target_size", [(20, 28), (17, 30), (5, 7), (3, 4)])
def test_the_gradient_of_upsampled_masks(size: int, target_size: tuple[int, int]) -> None:
    logits = numbers(5, 5, 7)
    masks = torch.rand(3, *target_size) > 0.6
    masks[1] = False
    objects = torch.tensor([2, 0, 1, 2, 2])
    up = F.interpolate(logits[:, None], size=target_size, mode="bilinear")[:, 0]
    true = masks[objects].double()
    expected = torch.stack(
        [focal(up, true, 0.25, 2.0).mean((1, 2)), dice(up, true, 0.0, 1.0, power=1)]
    )
    check(upsampled_mask_losses(logits, masks, objects, size), expected, logits)


@pytest.mark.parametrize("size", [-6e4, -90.0, 0.0, 90.0, 6e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_upsampled_masks_of_any_logits_are_finite(size: float, dtype: torch.dtype) -> None:
    logits = torch.full((2, 3, 3), size, dtype=dtype, requires_grad=True)
    masks = torch.zeros(2, 12, 12, dtype=torch.bool)
    masks[0, 3:] = True
    losses = upsampled_mask_losses(logits, masks, torch.arange(2), 1)
    assert losses.dtype == torch.float32
    losses.sum().backward()
    assert losses.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.dtype == dtype
    assert logits.grad.isfinite().all()


def saved_bytes(run: Callable[[], Tensor]) -> int:
    total = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal total
        total += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        run()
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dice_keeps_logits_and_targets_as_they_are(dtype: torch.dtype) -> None:
    logits = torch.randn(10, 40, 50).to(dtype).requires_grad_()
    targets = torch.rand(10, 40, 50) > 0.5
    kept = saved_bytes(lambda: dice_loss(logits, targets))
    assert kept == logits.numel() * logits.element_size() + targets.numel() + 2 * 10 * 4


def test_upsampled_masks_keep_their_gradients_alone() -> None:
    logits = torch.randn(6, 8, 8, requires_grad=True)
    masks = torch.rand(2, 32, 32) > 0.5
    objects = torch.tensor([0, 1, 0, 1, 0, 1])
    kept = saved_bytes(lambda: upsampled_mask_losses(logits, masks, objects, 2))
    assert kept == 2 * logits.numel() * 4
