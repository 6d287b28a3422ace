"""Convolution in Winograd's tiles beside torch's own in float64."""

import pytest
import torch
from torch.nn import functional as F

from solo_family.ops import winograd

CASES = [
    # images, channels of the input and output, height, width, padding
    (1, 8, 8, 4, 4, 1),  # one tile
    (2, 5, 7, 13, 18, 1),  # tiles exceed the output
    (3, 16, 4, 6, 9, 0),
    (2, 3, 9, 5, 7, 2),
    (1, 2, 3, 1, 1, 1),
    (1, 6, 6, 3, 3, 0),  # one pixel of the output
    (1, 4, 4, 70, 130, 1),  # several chunks of rows
    (9, 4, 4, 20, 24, 1),  # several chunks of images, the last of which is not full
]


def _gap(found, exact):
    return ((found.double() - exact).abs().max() / exact.abs().max()).item()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_results_and_gradients_are_those_of_float64(case, channels_last):
    torch.manual_seed(0)
    images, inputs, outputs, height, width, padding = case
    x, weight = torch.randn(images, inputs, height, width), torch.randn(outputs, inputs, 3, 3)
    bias = torch.randn(outputs)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    leaves = [t.double().requires_grad_(True) for t in (x, weight)]
    exact = F.conv2d(leaves[0], leaves[1], bias.double(), padding=padding)
    gradient = torch.randn(exact.shape)
    of_x, of_weight = torch.autograd.grad(exact, leaves, gradient.double())

    found = winograd.convolve(x, winograd.transform_weight(weight), bias, padding)
    assert found.shape == exact.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert _gap(found, exact.detach()) < 1e-5
    plain = winograd.convolve(x, winograd.transform_weight(weight), None, padding)
    assert _gap(plain + bias.view(-1, 1, 1), exact.detach()) < 1e-5
    assert _gap(winograd.gradient_of_input(gradient, weight, padding), of_x) < 1e-5
    assert _gap(winograd.gradient_of_weight(gradient, x, padding), of_weight) < 1e-5


def test_errors_are_those_of_torchs_own_convolution():
    # With the customary points 0, +-1, +-2 they are four times as large.
    torch.manual_seed(0)
    x, weight = torch.randn(1, 256, 40, 56), torch.randn(256, 256, 3, 3)
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    found = winograd.convolve(x, winograd.transform_weight(weight), None, 1)
    of_torch = (F.conv2d(x, weight, padding=1) - exact).abs().max()
    assert (found - exact).abs().max() < 2 * of_torch


def test_torchs_defaults_change_nothing():
    torch.manual_seed(0)
    x, weight = torch.randn(1, 8, 11, 14), torch.randn(8, 8, 3, 3)
    expected = winograd.convolve(x, winograd.transform_weight(weight), None, 1)
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        found = winograd.convolve(x, winograd.transform_weight(weight), None, 1)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert (found.dtype, found.device) == (torch.float32, x.device)
    assert torch.equal(found, expected)


def test_no_pixel_depends_on_another_image():
    torch.manual_seed(0)
    x, weight = torch.randn(3, 8, 11, 14), torch.randn(8, 8, 3, 3)
    transformed = winograd.transform_weight(weight)
    x[1] = torch.nan
    found = winograd.convolve(x, transformed, None, 1)
    assert found[1].isnan().all()
    assert found[::2].isfinite().all()


def test_no_images():
    weight = torch.randn(8, 8, 3, 3)
    x = torch.randn(0, 8, 12, 12)
    assert winograd.convolve(x, winograd.transform_weight(weight), None, 1).shape == (0, 8, 12, 12)
    assert not winograd.gradient_of_weight(torch.randn(0, 8, 12, 12), x, 1).any()
    assert winograd.count_tiles(x, 1) == 0


def test_tiles_are_counted():
    assert winograd.count_tiles(torch.empty(2, 1, 16, 17), 1) == 2 * 4 * 5
    assert winograd.count_tiles(torch.empty(1, 1, 2, 9), 0) == 0


@pytest.mark.parametrize(
    ("weight", "geometry", "expected"),
    [
        (torch.empty(8, 4, 3, 3), ((1, 1), (1, 1), (1, 1), 1), True),
        (torch.empty(8, 4, 3, 3), ((0, 0), (1, 1), (1, 1), 1), True),
        (torch.empty(8, 4, 3, 3), ((3, 3), (1, 1), (1, 1), 1), False),
        (torch.empty(8, 4, 3, 3), ((1, 0), (1, 1), (1, 1), 1), False),
        (torch.empty(8, 4, 3, 3), ((1, 1), (2, 2), (1, 1), 1), False),
        (torch.empty(8, 4, 3, 3), ((1, 1), (1, 2), (1, 1), 1), False),
        (torch.empty(8, 4, 3, 3), ((2, 2), (1, 1), (2, 2), 1), False),
        (torch.empty(8, 4, 3, 3), ((1, 1), (1, 1), (1, 1), 2), False),
        (torch.empty(8, 4, 3, 5), ((1, 1), (1, 1), (1, 1), 1), False),
        (torch.empty(8, 4, 1, 1), ((0, 0), (1, 1), (1, 1), 1), False),
        (torch.empty(8, 4, 3, 3).bfloat16(), ((1, 1), (1, 1), (1, 1), 1), False),
        (torch.empty(8, 4, 3, 3).double(), ((1, 1), (1, 1), (1, 1), 1), False),
        (torch.empty(8, 4, 3, 3, device="meta"), ((1, 1), (1, 1), (1, 1), 1), False),
    ],
)
def test_only_plain_3x3_kernels_in_float32_on_a_cpu_suit(weight, geometry, expected):
    assert winograd.suits(weight, geometry) is expected
