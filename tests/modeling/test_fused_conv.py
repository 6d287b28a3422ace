"""Models whose convolutions apply what follows them, as on a GPU, with stand-ins for cuDNN."""

import copy
import logging
from collections import Counter
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from torch import Tensor, nn

from solo_family import METHODS
from solo_family.modeling import fused_conv, inference
from solo_family.modeling.fast_group_norm import FusedGroupNorm
from solo_family.modeling.fuse import fuse_convolutions
from solo_family.modeling.fused_conv import FusedConv2d, fusing_works
from solo_family.modeling.fused_fpn import FusedFPN
from solo_family.modeling.fused_stem import FusedStem
from solo_family.modeling.inference import prepare_for_inference
from solo_family.modeling.joined_blocks import JoinedBottleneck

from ..conftest import picture
from .test_inference import make

CUDA = torch.cuda.is_available()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Let a CPU fuse as a GPU does; count what is fused."""
    counted: Counter[str] = Counter()

    def plain(x: Tensor, conv: nn.Conv2d) -> Tensor:
        return F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation)

    def relu(x: Tensor, conv: nn.Conv2d) -> Tensor:
        counted["relu"] += 1
        return plain(x, conv).relu()

    def add(x: Tensor, other: Tensor, conv: nn.Conv2d) -> Tensor:
        counted["add"] += 1
        return (plain(x, conv) + other).relu()

    monkeypatch.setattr(fused_conv, "convolve_and_relu", relu)
    monkeypatch.setattr(fused_conv, "convolve_add_and_relu", add)
    monkeypatch.setattr(inference, "fusing_works", lambda dtype, device: True)
    monkeypatch.setattr(inference, "packing_works", lambda dtype, device: False)
    return counted


@pytest.mark.parametrize("method", METHODS)
def test_finds_the_same(method: str, calls: Counter[str]) -> None:
    model, one = make(method), picture(seed=2)
    (expected,) = model([one])
    fused = prepare_for_inference(model, optimize=True)
    for _ in range(3):  # torch's, compared, cuDNN's
        (found,) = fused([one])
    assert len(expected["instances"]) > 0
    torch.testing.assert_close(
        found["instances"].scores, expected["instances"].scores, rtol=0, atol=1e-5
    )
    same = found["instances"].pred_masks == expected["instances"].pred_masks
    assert same.float().mean() > 0.999
    assert calls["relu"] > 0
    assert calls["add"] > 0
    convolutions = [part for part in fused.modules() if isinstance(part, nn.Conv2d)]
    assert all(isinstance(conv, FusedConv2d) for conv in convolutions)
    norms = [part for part in fused.modules() if isinstance(part, nn.GroupNorm)]
    assert all(type(norm) is FusedGroupNorm for norm in norms)


def test_in_solov2_no_relu_is_a_pass_of_its_own(
    calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = prepare_for_inference(make("SOLOv2"), optimize=True)
    monkeypatch.setattr(Tensor, "relu", None)
    monkeypatch.setattr(F, "relu", None)
    blocks = [part for part in fused.modules() if isinstance(part, JoinedBottleneck)]
    for norm in fused.modules():
        if isinstance(norm, FusedGroupNorm):
            assert norm.relu
            norm.relu = False  # torch's own group norm, on a CPU, has none to offer
    with monkeypatch.context() as patch:
        patch.setattr(fused_conv, "convolve_and_relu", lambda x, conv: nn.Conv2d.forward(conv, x))
        patch.setattr(
            fused_conv,
            "convolve_add_and_relu",
            lambda x, other, conv: nn.Conv2d.forward(conv, x) + other,
        )
        with torch.no_grad():
            fused.fixed_part(fused.backbone(torch.zeros(1, 3, 64, 64)), (64, 64))
    # The biases of shortcuts are those of the sums.
    shortcuts = [block.shortcut for block in blocks if block.shortcut is not None]
    assert shortcuts
    assert all(shortcut.bias is None for shortcut in shortcuts)
    assert all(block.conv3.bias is not None for block in blocks)


def test_with_gradients_or_autocast_torch_does_all(calls: Counter[str]) -> None:
    conv = FusedConv2d.take(nn.Conv2d(8, 8, 3))
    conv.attribute = "relu"
    x = torch.randn(1, 8, 9, 9)
    conv(x).sum().backward()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16
    assert not calls
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, conv.bias).relu())
        # Of another dtype than the weights, and of no images.
        assert conv(x[:0]).shape == (0, 8, 7, 7)
    assert calls == {"relu": 2}


@pytest.mark.parametrize("wrong", [lambda x: x * 1.1, lambda x: x + torch.nan])
def test_what_cudnn_computes_wrongly_for_a_size_it_does_not_compute(
    wrong: Callable[[Tensor], Tensor],
    monkeypatch: pytest.MonkeyPatch,
    calls: Counter[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is compared when a size comes first; before that, and if it is wrong, torch does all."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(fused_conv, "_said", [])
    conv = FusedConv2d.take(nn.Conv2d(8, 16, 3, padding=1))
    conv.attribute = "relu"
    right = fused_conv.convolve_and_relu

    def of_some(x: Tensor, conv: nn.Conv2d) -> Tensor:
        return right(x, conv) if x.shape[2] == 9 else wrong(right(x, conv))

    monkeypatch.setattr(fused_conv, "convolve_and_relu", of_some)
    with torch.no_grad():
        for _ in range(3):
            for side in (9, 10):
                x, other = torch.randn(1, 8, side, side), torch.randn(1, 16, side, side)
                expected = F.conv2d(x, conv.weight, conv.bias, padding=1)
                torch.testing.assert_close(conv(x), expected.relu())
    assert caplog.text.count("not used for some maps, of 8 to 16 channels, (3, 3)") == 1
    # Compared and used for the one size, compared for the other.
    assert calls == {"relu": 3}
    with torch.no_grad():
        torch.testing.assert_close(conv.add_to_and_relu(other, x), (expected + other).relu())


def test_no_answer_is_had_from_infinite_values(calls: Counter[str]) -> None:
    conv = FusedConv2d.take(nn.Conv2d(8, 8, 1))
    conv.attribute = "relu"
    x = torch.full((1, 8, 4, 4), torch.nan)
    with torch.no_grad():
        for _ in range(2):
            assert conv(x).isnan().all()
        assert not calls
        conv(torch.ones(1, 8, 4, 4))
    assert calls == {"relu": 1}
    # Another GPU has answers of its own.
    assert not copy.deepcopy(conv).__dict__.get("_answers")


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError, RuntimeError])
@pytest.mark.parametrize("late", [False, True])
def test_where_cudnn_fails_torch_computes(
    error: type[Exception], late: bool, monkeypatch: pytest.MonkeyPatch, calls: Counter[str]
) -> None:
    """It may lack a kernel for a size, or the memory, even after a comparison."""
    right = fused_conv.convolve_and_relu

    def fail(x: Tensor, conv: nn.Conv2d) -> Tensor:
        if late and calls["relu"] == 0:
            return right(x, conv)
        raise error("none left")

    monkeypatch.setattr(fused_conv, "convolve_and_relu", fail)
    conv = FusedConv2d.take(nn.Conv2d(8, 8, 1))
    conv.attribute = "relu"
    x = torch.randn(1, 8, 4, 4)
    with torch.no_grad():
        for _ in range(5):
            torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, conv.bias).relu())


def test_few_channels_are_left_to_torch(calls: Counter[str]) -> None:
    for given, made in ((4, 8), (8, 4)):
        conv = FusedConv2d.take(nn.Conv2d(given, made, 1))
        conv.attribute = "relu"
        with torch.no_grad():
            for _ in range(2):
                conv(torch.ones(1, given, 4, 4))
    assert not calls


def test_a_product_in_half_precision_is_the_convolution() -> None:
    conv = FusedConv2d.take(nn.Conv2d(16, 8, 1).bfloat16())
    x = torch.randn(2, 16, 5, 7).bfloat16().to(memory_format=torch.channels_last)
    with torch.no_grad():
        found = conv(x)
        expected = F.conv2d(x.float(), conv.weight.float(), conv.bias.float())
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found.float(), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("last", [True, False])
def test_a_stem_is_convolved_in_blocks(last: bool, calls: Counter[str]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 7, stride=2, padding=3), nn.ReLU()).bfloat16()
    x = torch.randn(2, 3, 10, 14).bfloat16()
    x = x.to(memory_format=torch.channels_last) if last else x
    with torch.no_grad():
        expected = model.float()(x.float())
        fuse_convolutions(model.bfloat16())
        assert type(model[0]) is FusedStem
        for _ in range(3):
            torch.testing.assert_close(model(x).float(), expected, rtol=2e-2, atol=2e-2)
            # Of an odd side, as it is.
            odd = model(x[:, :, 1:])
            assert odd.shape == (2, 8, 5, 7)
    assert calls == {"relu": 4}


def test_stems_of_other_kinds_stay() -> None:
    for conv in (nn.Conv2d(3, 8, 7, 2, 3), nn.Conv2d(4, 8, 7, 2, 3).bfloat16()):
        assert not FusedStem.suits(conv)


@pytest.mark.parametrize("method", METHODS)
def test_all_parts_are_in_evaluation_mode(method: str, calls: Counter[str]) -> None:
    """Others are taken for models in training, which have no CUDA graphs."""
    fused = prepare_for_inference(make(method), precision="bfloat16", optimize=True)
    assert not [name for name, part in fused.named_modules() if part.training]


@pytest.mark.parametrize("top", ["", "pool", "p6p7"])
@pytest.mark.parametrize("fuse_type", ["sum", "avg"])
def test_the_pyramid_is_detectron2s(top: str, fuse_type: str, calls: Counter[str]) -> None:
    stages = ResNet.make_default_stages(18, norm="")
    bottom = ResNet(BasicStem(norm=""), stages, out_features=["res3", "res4", "res5"])
    blocks = {"": None, "pool": LastLevelMaxPool(), "p6p7": LastLevelP6P7(512, 32)}
    fpn = FPN(bottom, ["res3", "res4", "res5"], 32, "GN", blocks[top], fuse_type).eval()
    assert all(isinstance(shape, ShapeSpec) for shape in fpn.output_shape().values())
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = fpn(x)
        fuse_convolutions(fpn)
        assert type(fpn) is FusedFPN
        found = fpn(x)
    assert list(found) == list(expected)
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not CUDA, reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_cuda_fuses(dtype: torch.dtype) -> None:
    assert fusing_works(dtype, torch.device("cuda", 0))


def test_a_cpu_does_not() -> None:
    assert not fusing_works(torch.float32, torch.device("cpu"))
