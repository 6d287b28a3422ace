import pytest
import torch

from solo_family.modeling.layers import append_coords, prepend_coords


@pytest.mark.parametrize("size", [(2, 2), (5, 9), (40, 40), (1, 7), (168, 101), (1, 1)])
def test_coordinates_are_x_then_y_after_the_features(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    out = append_coords(x)
    ys, xs = torch.meshgrid(
        torch.linspace(-1, 1, size[0]), torch.linspace(-1, 1, size[1]), indexing="ij"
    )
    assert out.shape == (2, 5, *size)
    assert torch.equal(out[:, :3], x)
    for image in out:
        torch.testing.assert_close(image[3], xs, rtol=0, atol=1e-6)
        torch.testing.assert_close(image[4], ys, rtol=0, atol=1e-6)


def test_coordinates_before_the_features() -> None:
    x = torch.randn(2, 3, 4, 6)
    out, after = prepend_coords(x), append_coords(x)
    assert torch.equal(out[:, :2], after[:, 3:])
    assert torch.equal(out[:, 2:], x)


def test_one_pixel_is_at_minus_one() -> None:
    assert append_coords(torch.zeros(1, 1, 1, 1)).flatten().tolist() == [0, -1, -1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_type_is_that_of_the_features(dtype: torch.dtype) -> None:
    out = append_coords(torch.zeros(1, 1, 3, 513, dtype=dtype))
    assert out.dtype == dtype
    expected = torch.linspace(-1, 1, 513).to(dtype)
    torch.testing.assert_close(out[0, 1, 0], expected, rtol=0, atol=torch.finfo(dtype).eps)
