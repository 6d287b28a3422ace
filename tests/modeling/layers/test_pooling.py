import pytest
import torch
import torch.nn.functional as F
from torch.export import Dim

from solo_family.export.formats import sides_of_one_as_others
from solo_family.modeling.layers import AdaptiveAveragePool
from solo_family.modeling.layers.pooling import adaptive_average_pool

from ...versions import exports_autocast

SIZES = [(20, 20), (13, 21), (6, 6), (5, 3), (1, 1), (1, 27), (2, 7)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_it_is_torchs_adaptive_pooling(size: tuple[int, int], bins: int) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(adaptive_average_pool(x, bins), F.adaptive_avg_pool2d(x, bins))


def test_the_gradient_is_too() -> None:
    x = torch.randn(1, 2, 7, 11, requires_grad=True)
    weights = torch.randn(1, 2, 3, 3)
    (found,) = torch.autograd.grad((adaptive_average_pool(x, 3) * weights).sum(), x)
    (expected,) = torch.autograd.grad((F.adaptive_avg_pool2d(x, 3) * weights).sum(), x)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_averaged_in_float32(dtype: torch.dtype) -> None:
    # 900 values whose sum exceeds float16.
    x = torch.full((1, 1, 30, 30), 1000.0, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = adaptive_average_pool(x, 1)
    assert out.dtype == dtype
    assert out.item() == 1000


@pytest.mark.parametrize("size", SIZES)
def test_a_traced_graph_follows_the_size_of_its_input(size: tuple[int, int]) -> None:
    traced = torch.jit.trace(AdaptiveAveragePool(3), torch.zeros(1, 2, 8, 8))
    x = torch.randn(1, 2, *size)
    torch.testing.assert_close(traced(x), F.adaptive_avg_pool2d(x, 3))


@exports_autocast
def test_an_exported_program_takes_maps_of_one_row() -> None:
    sides = {2: Dim("rows", min=1), 3: Dim("columns", min=1)}
    layer = AdaptiveAveragePool(3)
    with sides_of_one_as_others():
        program = torch.export.export(layer, (torch.rand(1, 2, 5, 8),), dynamic_shapes=(sides,))
    for size in [(5, 8), (1, 9), (7, 1)]:
        x = torch.rand(1, 2, *size)
        torch.testing.assert_close(program.module()(x), F.adaptive_avg_pool2d(x, 3))
