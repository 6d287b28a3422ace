import pytest
import torch
import torch.nn.functional as F

from solo_family.ops.resize_gradient import resize_gradient

SIZES = [
    ((5, 7), (20, 28)),
    ((40, 54), (160, 216)),
    ((5, 7), (17, 30)),
    ((5, 7), (5, 7)),
    ((9, 11), (4, 3)),
    ((70, 90), (2, 2)),
    ((1, 1), (6, 5)),
    ((1, 33), (40, 1)),
]


@pytest.mark.parametrize(("size", "output"), SIZES)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_is_that_of_torchs_interpolation(
    size: tuple[int, int], output: tuple[int, int], count: int, dtype: torch.dtype
) -> None:
    maps = torch.zeros(1, count, *size, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(count, *output, dtype=dtype)
    resized = F.interpolate(maps, size=output, mode="bilinear", align_corners=False)
    resized.backward(gradient[None].double())
    assert maps.grad is not None
    result = resize_gradient(gradient, size)
    assert result.dtype == dtype
    precision = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(result.double(), maps.grad[0], rtol=precision, atol=precision)


def test_a_gradient_of_any_strides_is_read_right() -> None:
    gradient = torch.randn(20, 3, 28).transpose(0, 1)
    expected = resize_gradient(gradient.contiguous(), (5, 7))
    torch.testing.assert_close(resize_gradient(gradient, (5, 7)), expected)


def test_it_works_in_inference_mode_first_and_in_training_next() -> None:
    with torch.inference_mode():
        resize_gradient(torch.ones(1, 13, 26), (3, 6))
    assert resize_gradient(torch.ones(1, 13, 26), (3, 6)).sum() == pytest.approx(13 * 26)


def test_no_maps_have_no_gradient() -> None:
    assert resize_gradient(torch.zeros(0, 13, 26), (3, 6)).shape == (0, 3, 6)
