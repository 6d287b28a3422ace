"""Constants are made once, unless a graph has to make its own."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from solo_family.methods.mask_former.transformer import sine_position_encoding
from solo_family.modeling.layers import remembered as module
from solo_family.modeling.layers.coord import coordinate_maps
from solo_family.modeling.layers.pooling import adaptive_average_pool
from solo_family.modeling.layers.remembered import constant, constants_of_a_graph, remembered


def counted() -> tuple[list, Callable[..., Tensor]]:
    calls: list = []

    @remembered
    def numbers(size: int, dtype: torch.dtype, *, device: torch.device) -> Tensor:
        calls.append((size, dtype))
        return torch.arange(size, dtype=dtype, device=device)

    return calls, numbers


def test_each_is_made_once() -> None:
    calls, numbers = counted()
    like = torch.zeros(1)
    first = numbers(like, 3, torch.float32)
    assert first.tolist() == [0, 1, 2]
    assert numbers(like, 3, torch.float32) is first
    assert numbers(like, 3, torch.int64).dtype == torch.int64
    assert numbers(like, 2, torch.float32).tolist() == [0, 1]
    assert calls == [(3, torch.float32), (3, torch.int64), (2, torch.float32)]


def test_only_the_latest_are_kept() -> None:
    calls, numbers = counted()
    for size in range(100):
        numbers(torch.zeros(1), size, torch.int64)
    numbers(torch.zeros(1), 99, torch.int64)
    numbers(torch.zeros(1), 0, torch.int64)
    assert [size for size, _ in calls] == [*range(100), 0]


def test_what_was_made_in_inference_mode_serves_training() -> None:
    _, numbers = counted()
    with torch.inference_mode():
        made = numbers(torch.zeros(1), 3, torch.float32)
    assert not made.is_inference()
    weight = torch.ones(3, requires_grad=True)
    (weight * numbers(torch.zeros(1), 3, torch.float32)).sum().backward()
    assert weight.grad.tolist() == [0, 1, 2]


def test_a_compiled_or_traced_graph_makes_its_own() -> None:
    calls, numbers = counted()
    like = torch.zeros(3)
    numbers(like, 3, torch.float32)

    def add(x: Tensor) -> Tensor:
        return x + numbers(x, x.shape[0], torch.float32)

    traced = torch.jit.trace(add, like)
    assert traced(torch.ones(3)).tolist() == [1, 2, 3]
    assert len(calls) > 1
    compiled = torch.compile(add, backend="eager", fullgraph=True)
    assert compiled(torch.ones(3)).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "make",
    [
        coordinate_maps,
        lambda x: sine_position_encoding(x, 8),
        lambda x: adaptive_average_pool(x, 3),
    ],
    ids=["coordinates", "sine", "pooling"],
)
def test_layers_give_the_same_again(make: Callable[[Tensor], Tensor]) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.rand(2, 3, 7, 5).to(dtype)
        first = make(x).clone()
        assert torch.equal(make(x), first)
        assert make(x).dtype == dtype
        assert make(x[..., :4]).shape != first.shape or first.shape[-1] == 3


def test_a_constant_has_the_values() -> None:
    like = torch.zeros(1)
    assert constant(like, (3, 1), torch.int64).tolist() == [3, 1]
    assert constant(like, (), torch.int64).shape == (0,)
    assert constant(like, (3, 1), torch.int64) is constant(like, (3, 1), torch.int64)


def test_a_graph_has_the_constants_of_its_rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is captured nothing is made that was asked for before, and the rest is its own."""
    calls, numbers = counted()
    like = torch.zeros(1)
    capturing = False
    monkeypatch.setattr(module, "_is_captured", lambda _: capturing)
    with constants_of_a_graph() as kept:
        rehearsed = numbers(like, 3, torch.float32)
        for size in range(100):
            numbers(like, size, torch.int64)
        capturing = True
        assert numbers(like, 3, torch.float32) is rehearsed
        before = len(calls)
        own = numbers(like, 200, torch.int64)
        assert numbers(like, 200, torch.int64) is not own
        assert len(calls) == before + 2
    assert any(tensor is rehearsed for tensor in kept.values())
    assert not any(tensor is own for tensor in kept.values())
    capturing = False
    with constants_of_a_graph() as others:
        assert not others
    numbers(like, 4, torch.float32)
    assert not others
