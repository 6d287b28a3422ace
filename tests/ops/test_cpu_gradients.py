"""Gradients on a CPU beside torch's own, which are computed in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from solo_family.modeling.cpu_gradients import CpuGradients
from solo_family.ops import winograd


def _gradients(function, tensors):
    leaves = [tensor.clone().requires_grad_(True) for tensor in tensors]
    result = function(*leaves)
    weights = torch.linspace(-1, 2, result.numel()).to(result.dtype).view_as(result)
    return result, torch.autograd.grad((result * weights).sum(), leaves)


CONVOLUTIONS = [
    # kernel, stride, padding
    ((5, 5), 1, 2),
    ((5, 5), (2, 2), 2),
    ((7, 7), (1, 1), (3, 3)),
    ((4, 4), 2, 1),
    ((3, 5), (1, 2), (1, 2)),
    ((6, 3), (2, 1), (0, 1)),
    ((9, 9), 4, 0),
]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), CONVOLUTIONS)
def test_wide_depthwise_kernels_have_the_gradients_of_float64(
    kernel, stride, padding, channels_last
):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 6, 19, 23), torch.randn(6, 1, *kernel), torch.randn(6)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)

    def convolved(x, weight, bias):
        return F.conv2d(x, weight, bias, stride, padding, groups=6)

    with CpuGradients():
        result, found = _gradients(convolved, (x, weight, bias))
    assert type(result.grad_fn).__name__ == "_DepthwiseConvBackward"
    expected_result, expected = _gradients(convolved, (x.double(), weight.double(), bias.double()))
    torch.testing.assert_close(result.double(), expected_result, rtol=1e-5, atol=1e-5)
    for ours, exact in zip(found, expected):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-4)


STEPS = [
    # kernel, stride, padding, dilation
    ((3, 3), 1, 1, 1),
    ((3, 3), (2, 2), (1, 1), 1),
    ((3, 3), 1, 2, 2),
    ((1, 3), (1, 2), (0, 3), (1, 3)),
    ((7, 7), 2, 3, 1),
    ((4, 2), (3, 2), (1, 0), (1, 2)),
    ((5, 5), 1, 0, (2, 1)),
]


@pytest.mark.parametrize("last", ["both", "map", "weight"])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), STEPS)
def test_weights_of_all_channels_have_the_gradients_of_float64(
    kernel, stride, padding, dilation, last, monkeypatch
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 17, 19, 24), torch.randn(18, 17, *kernel), torch.randn(18)
    if last != "weight":
        x = x.contiguous(memory_format=torch.channels_last)
    if last != "map":
        weight = weight.contiguous(memory_format=torch.channels_last)

    def convolved(x, weight, bias):
        return F.conv2d(x, weight, bias, stride, padding, dilation)

    with CpuGradients():
        result, found = _gradients(convolved, (x, weight, bias))
    assert type(result.grad_fn).__name__ == "_DenseConvBackward"
    assert torch.equal(result, convolved(x, weight, bias))
    expected = _gradients(convolved, (x.double(), weight.double(), bias.double()))[1]
    for ours, exact in zip(found, expected):
        scale = exact.abs().max().item()
        torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_wide_3x3_kernels_are_computed_in_tiles(padding, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    torch.manual_seed(0)
    x = torch.randn(2, 128, 25, 26).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(128, 128, 3, 3), torch.randn(128)
    calls = []
    for name in ("convolve", "gradient_of_input", "gradient_of_weight"):
        function = getattr(winograd, name)

        def counted(*args, name=name, function=function):
            calls.append(name)
            return function(*args)

        monkeypatch.setattr(winograd, name, counted)

    def convolved(x, weight, bias):
        return F.conv2d(x, weight, bias, padding=padding)

    with CpuGradients():
        result, found = _gradients(convolved, (x, weight, bias))
    # The gradient of the input is a convolution, too.
    assert calls == ["convolve", "gradient_of_input", "convolve", "gradient_of_weight"]
    doubles = (x.double(), weight.double(), bias.double())
    expected_result, expected = _gradients(convolved, doubles)
    for ours, exact in zip((result, *found), (expected_result, *expected)):
        scale = exact.abs().max().item()
        torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("channels", [32, 128])
def test_a_backward_pass_under_autocast_is_that_without(channels, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    torch.manual_seed(0)
    x = torch.randn(1, channels, 32, 32).contiguous(memory_format=torch.channels_last)
    leaves = x.requires_grad_(True), torch.randn(channels, channels, 3, 3, requires_grad=True)
    found = []
    for enabled in (False, True):
        with CpuGradients(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            with torch.autocast("cpu", enabled=False):  # as a layer that wants float32
                loss = F.conv2d(*leaves, padding=1).square().sum()
            found.append(torch.autograd.grad(loss, leaves))
    for under, without in zip(*found):
        assert torch.equal(under, without)


@pytest.mark.parametrize("side", [32, 33])  # whole tiles, and tiles that are cut off
def test_results_of_tiles_may_be_changed_in_place(side, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    layers = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(inplace=True))
    x = torch.randn(1, 128, side, side).contiguous(memory_format=torch.channels_last)
    with CpuGradients():
        layers(x).sum().backward()
    found = [weight.grad.clone() for weight in layers.parameters()]
    layers.zero_grad()
    layers(x).sum().backward()
    for ours, weight in zip(found, layers.parameters()):
        torch.testing.assert_close(ours, weight.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("channels", "side", "expected"),
    [
        (63, 32, []),
        (64, 32, ["gradient_of_weight"]),
        (127, 32, ["gradient_of_weight"]),
        (128, 32, ["convolve", "gradient_of_weight"]),
        (128, 28, []),  # 49 tiles
    ],
)
def test_few_channels_or_tiles_are_left_to_torch(channels, side, expected, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    calls = []
    for name in ("convolve", "gradient_of_weight"):
        function = getattr(winograd, name)
        monkeypatch.setattr(winograd, name, lambda *a, n=name, f=function: calls.append(n) or f(*a))
    x = torch.randn(1, channels, side, side).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(128, channels, 3, 3, requires_grad=True)
    with CpuGradients():
        F.conv2d(x, weight, padding=1).sum().backward()
    assert calls == expected
    assert weight.grad.shape == weight.shape


def test_only_what_is_asked_for_is_computed(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    x = torch.randn(1, 16, 9, 9).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(16, 16, 3, 3, requires_grad=True)
    with CpuGradients():
        result = F.conv2d(x, weight, padding=1)
        (result.sum()).backward()
    assert x.grad is None
    assert weight.grad.shape == weight.shape


def test_activations_may_be_computed_again(monkeypatch):
    """What is saved is what torch's own convolution saves, which computes the second time."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2))
    x = torch.randn(1, 16, 11, 13).contiguous(memory_format=torch.channels_last)
    expected = torch.autograd.grad(layers(x).square().sum(), list(layers.parameters()))
    with CpuGradients():
        result = checkpoint(layers, x, use_reentrant=False)
    found = torch.autograd.grad(result.square().sum(), list(layers.parameters()))
    for ours, torchs in zip(found, expected):
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-4)


def test_products_are_for_processors_with_avx2_alone(monkeypatch):
    x = torch.randn(2, 16, 9, 9).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(16, 16, 3, 3, requires_grad=True)
    for capability, ours in (("AVX512", False), ("DEFAULT", False), ("AVX2", True)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda c=capability: c)
        with CpuGradients():
            result = F.conv2d(x, weight)
            assert (type(result.grad_fn).__name__ == "_DenseConvBackward") is ours
            for other in (
                F.conv2d(x.contiguous(), weight),
                F.conv2d(x, weight[:, :8], groups=2),
                F.conv2d(x, weight[:, :, :1, :1]),
                F.conv2d(x[:, :15], weight[:, :15]),
                F.conv2d(x.double(), weight.double()),
                F.conv2d(x[:0], weight),
                F.conv2d(x.clone().requires_grad_(), weight.detach()),
            ):
                assert type(other.grad_fn).__name__ == "ConvolutionBackward0"
            with torch.autocast("cpu", torch.bfloat16):
                assert type(F.conv2d(x, weight).grad_fn).__name__ != "_DenseConvBackward"


@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_strides_in_bfloat16_round_no_more_than_torch_does(kernel):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 8, 20, 30), torch.randn(8, 1, kernel, kernel)

    def convolved(x, weight):
        with torch.autocast("cpu", torch.bfloat16):
            return F.conv2d(x, weight, None, 2, 1, groups=8)

    with CpuGradients():
        result, found = _gradients(convolved, (x, weight))
    assert type(result.grad_fn).__name__ == "_DepthwiseConvBackward"
    plain, theirs = _gradients(convolved, (x, weight))
    assert torch.equal(result, plain)
    rounded = (x.bfloat16().double(), weight.bfloat16().double())
    exact = _gradients(lambda x, weight: F.conv2d(x, weight, None, 2, 1, groups=8), rounded)[1]
    for ours, torchs, true in zip(found, theirs, exact):
        assert ours.dtype == torch.float32
        assert (ours - true).abs().max() <= 1.1 * (torchs - true).abs().max()


def test_what_torch_does_as_fast_is_left_to_torch():
    x = torch.randn(1, 6, 12, 12, requires_grad=True)
    wide = torch.randn(6, 1, 5, 5)
    with CpuGradients():
        for result in (
            F.conv2d(x, torch.randn(6, 1, 3, 3), padding=1, groups=6),
            F.conv2d(x, torch.randn(6, 1, 3, 3), stride=2, padding=1, groups=6),
            F.conv2d(x, wide, dilation=2, groups=6),
            F.conv2d(x, wide, padding="same", groups=6),
            F.conv2d(x, torch.randn(12, 1, 5, 5), groups=6),
            F.conv2d(x, torch.randn(4, 3, 5, 5), groups=2),
            F.conv2d(x, torch.randn(4, 6, 5, 5)),
            F.conv2d(x[0], wide, groups=6),
            F.group_norm(x, 2),
        ):
            assert not type(result.grad_fn).__name__.startswith("_")
        with torch.no_grad():
            assert F.conv2d(x, wide, groups=6).grad_fn is None
