"""Losses in small parts: values and gradients are those of all masks at once, computed once."""

import pytest
import torch
from torch import Tensor

from solo_family.methods.mask_former.point_mask_losses import in_small_parts


def two_losses(logits: Tensor, masks: Tensor) -> Tensor:
    p = logits.sigmoid()
    return torch.stack([(p * masks).sum((1, 2)), (logits**2).mean((1, 2))])


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, 6, generator=generator, requires_grad=True)
    masks = torch.rand(5, 4, 6, generator=generator) > 0.5
    return logits, masks, torch.randn(2, 5, generator=generator)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_values_and_gradients_are_those_of_autograd(size: int) -> None:
    logits, masks, weights = inputs()
    expected = two_losses(logits, masks)
    (weights * expected).sum().backward()
    gradient, logits.grad = logits.grad, None
    actual = in_small_parts(two_losses, logits, masks, size)
    torch.testing.assert_close(actual, expected)
    (weights * actual).sum().backward()
    torch.testing.assert_close(logits.grad, gradient)


def test_every_part_is_computed_once() -> None:
    sizes = []

    def counted(logits: Tensor, masks: Tensor) -> Tensor:
        sizes.append(len(logits))
        return two_losses(logits, masks)

    logits, masks, weights = inputs()
    (weights * in_small_parts(counted, logits, masks, 2)).sum().backward()
    assert sizes == [2, 2, 1]


def test_small_gradients_survive_half_precision() -> None:
    """As with a scaled loss: what the scale brings into range must not be lost before."""
    logits, masks, _ = inputs()
    half = logits.detach().half().requires_grad_()

    def tiny(logits: Tensor, masks: Tensor) -> Tensor:
        return 1e-9 * two_losses(logits, masks)

    losses = in_small_parts(tiny, half, masks, 2)
    assert losses.dtype == torch.float32
    (1e9 * losses).sum().backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.float16
    two_losses(logits, masks).sum().backward()
    torch.testing.assert_close(half.grad.float(), logits.grad, atol=2e-3, rtol=2e-3)
