from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from solo_family.modeling.cpu_gradients import CpuGradients
from solo_family.ops.group_norm import group_norm, is_faster_contiguous


def maps(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*size).to(dtype).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_the_gradients_are_those_of_float64(affine: bool, offset: float) -> None:
    torch.manual_seed(0)
    x = (maps(3, 8, 9, 11) + offset).requires_grad_()
    norm = nn.GroupNorm(4, 8, affine=affine)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    upstream = maps(3, 8, 9, 11)
    with CpuGradients():
        result = norm(x)
    assert type(result.grad_fn).__name__ == "_GroupNormBackward"
    plain = F.group_norm(x.contiguous(), 4, norm.weight, norm.bias, 1e-5)
    assert torch.equal(result, plain)  # as that of a contiguous map, because it is small
    assert result.is_contiguous(memory_format=torch.channels_last)
    found = torch.autograd.grad(result, (x, *norm.parameters()), upstream)
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    exact_x = x.detach().double().contiguous().requires_grad_()
    exact = torch.autograd.grad(
        norm.double()(exact_x), (exact_x, *norm.parameters()), upstream.double()
    )
    for ours, expected in zip(found, exact):
        assert ours.shape == expected.shape
        # Rounding of the values grows with them, torch's too.
        precision = 1e-5 * (1 + offset)
        torch.testing.assert_close(ours.double(), expected, rtol=precision, atol=precision)


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_maps_in_bfloat16_have_gradients_as_exact_as_torchs(weights: torch.dtype) -> None:
    torch.manual_seed(1)
    x = maps(2, 8, 16, 16, dtype=torch.bfloat16).requires_grad_()
    weight, bias = (torch.rand(8).to(weights).requires_grad_() for _ in range(2))
    upstream = maps(2, 8, 16, 16, dtype=torch.bfloat16)
    given = (x, weight, bias)
    ours = torch.autograd.grad(group_norm(x, 4, weight, bias, 1e-5), given, upstream)
    torchs = torch.autograd.grad(F.group_norm(x, 4, weight, bias, 1e-5), given, upstream)
    exact_given = [one.detach().double().contiguous().requires_grad_() for one in given]
    exact_x, exact_weight, exact_bias = exact_given
    exact = torch.autograd.grad(
        F.group_norm(exact_x, 4, exact_weight, exact_bias, 1e-5), exact_given, upstream.double()
    )
    for one, its, true, of in zip(ours, torchs, exact, given):
        assert one.dtype == of.dtype
        worst = (its.double() - true).abs().max()
        assert (one.double() - true).abs().max() <= 1.1 * worst + 1e-6


def test_a_gradient_that_is_not_channels_last_is_read_right() -> None:
    x = maps(2, 8, 9, 11).requires_grad_()
    result = group_norm(x, 2, None, None, 1e-5)
    upstream = torch.randn(2, 8, 9, 11)
    (ours,) = torch.autograd.grad(result, x, upstream)
    (expected,) = torch.autograd.grad(F.group_norm(x, 2, eps=1e-5), x, upstream)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learning", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)])
def test_frozen_parts_have_no_gradient(learning: tuple[int, int, int]) -> None:
    given = [maps(2, 8, 9, 11), torch.rand(8), torch.rand(8)]
    for one, learns in zip(given, learning):
        one.requires_grad_(bool(learns))
    group_norm(given[0], 2, given[1], given[2], 1e-5).square().sum().backward()
    found = [one.grad for one in given]
    assert [one is not None for one in found] == [bool(learns) for learns in learning]
    # Contiguous ones: torch ends the process if maps with channels last do not learn.
    others = [one.detach().clone().contiguous().requires_grad_() for one in given]
    F.group_norm(others[0], 2, others[1], others[2], 1e-5).square().sum().backward()
    for ours, expected in zip(found, others):
        if ours is not None:
            torch.testing.assert_close(ours, expected.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("side", "channels"), [(31, 8), (32, 8), (31, 16), (32, 16)])
def test_small_maps_are_normalized_on_a_copy(
    side: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For inference, too, but not if a group's channels fill a vector, here of 32 bytes."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    x = maps(2, channels, side, side).requires_grad_()
    torchs = torch.native_group_norm
    orders = []

    def recorded(x: Tensor, *args: Any) -> Any:
        orders.append(x.is_contiguous())
        return torchs(x, *args)

    monkeypatch.setattr(torch, "native_group_norm", recorded)
    trained = group_norm(x, 2, None, None, 1e-5)
    is_copied = side == 31 and channels == 8
    assert orders == [is_copied]
    torch.testing.assert_close(trained, F.group_norm(x, 2), rtol=1e-5, atol=1e-5)
    assert is_faster_contiguous(x, 2) == is_copied
    assert trained.is_contiguous(memory_format=torch.channels_last)


def test_groups_that_fill_vectors_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_ours(channels: int, dtype: torch.dtype) -> bool:
        x = maps(1, 2 * channels, 4, 4, dtype=dtype).requires_grad_()
        with CpuGradients():
            return type(F.group_norm(x, 2).grad_fn).__name__ == "_GroupNormBackward"

    for capability, size in {"AVX2": 32, "AVX512": 64, "DEFAULT": 32}.items():
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda it=capability: it)
        for dtype in (torch.float32, torch.bfloat16):
            whole = size // dtype.itemsize
            assert [
                is_ours(count, dtype) for count in (whole // 2, whole, whole + 1, 3 * whole)
            ] == [*(True, False, True, False)]
