import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling.backbone import resnet
from torch import Tensor, nn

from solo_family.modeling.layers import DeformConv2d, torchvision_deform_conv
from solo_family.modeling.layers.deform_conv import DeformConv

from ...conftest import picture, tiny_model


def sample(plane: Tensor, y: float, x: float) -> float:
    """Reads a plane at a fractional place: bilinear, 0 outside."""
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                share = (1 - abs(y - row)) * (1 - abs(x - column))
                total += share * float(plane[row, column])
    return total


def reference_deform_conv(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    deformable_groups: int = 1,
) -> Tensor:
    """Sums w(k) m(k) x(p + k + offset(k)) over the places k of the kernel, row by row."""
    batch, in_channels = x.shape[:2]
    out_channels, per_group, side, _ = weight.shape
    out = torch.zeros(batch, out_channels, *offset.shape[-2:])
    for b in range(batch):
        for row in range(out.shape[2]):
            for column in range(out.shape[3]):
                for c in range(in_channels):
                    deformable_group = c * deformable_groups // in_channels
                    for k in range(side * side):
                        place = deformable_group * side * side + k
                        dy = float(offset[b, 2 * place, row, column])
                        dx = float(offset[b, 2 * place + 1, row, column])
                        y = row * stride - padding + (k // side) * dilation + dy
                        x_ = column * stride - padding + (k % side) * dilation + dx
                        value = sample(x[b, c], y, x_)
                        if mask is not None:
                            value *= float(mask[b, place, row, column])
                        group = c // per_group
                        for o in range(out_channels):
                            if o * groups // out_channels == group:
                                tap = weight[o, c % per_group, k // side, k % side]
                                out[b, o, row, column] += float(tap) * value
    return out


@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"padding": 1, "stride": 2},
        {"padding": 2, "dilation": 2},
        {"padding": 1, "stride": 2, "groups": 2, "deformable_groups": 2},
    ],
    ids=["plain", "stride", "dilation", "groups"],
)
def test_deform_conv_samples_bilinearly(options: dict, modulated: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 4)
    conv = DeformConv(4, 2, 3, **options)
    size = F.conv2d(x[:, :1], torch.zeros(1, 1, 3, 3), None, *_plain(options)).shape[-2:]
    maps = 9 * options.get("deformable_groups", 1)
    # Wide enough that some samples are outside, on each side.
    offset = torch.randn(2, 2 * maps, *size) * 2
    mask = torch.rand(2, maps, *size) if modulated else None
    with torch.no_grad():
        found = conv(x, offset, mask)
        expected = reference_deform_conv(x, offset, conv.weight, mask, **options)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def _plain(options: dict) -> tuple[int, int, int]:
    return options.get("stride", 1), options.get("padding", 0), options.get("dilation", 1)


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
def test_deform_conv_2d_predicts_its_offsets(modulated: bool, kernel_size: int) -> None:
    torch.manual_seed(0)
    padding, places = kernel_size // 2, kernel_size**2
    conv = DeformConv2d(3, 2, kernel_size, padding=padding, modulated=modulated)
    nn.init.normal_(conv.offset.weight, std=0.5)
    nn.init.normal_(conv.offset.bias)
    nn.init.normal_(conv.bias)
    x = torch.randn(1, 3, 5, 4)
    with torch.no_grad():
        found = conv(x)
        maps = F.conv2d(x, conv.offset.weight, conv.offset.bias, padding=padding)
        # The offsets come first, then a sampling weight per place.
        assert maps.shape[1] == (3 if modulated else 2) * places
        mask = maps[:, 2 * places :].sigmoid() if modulated else None
        expected = reference_deform_conv(
            x, maps[:, : 2 * places], conv.weight, mask, padding=padding
        )
    torch.testing.assert_close(found, expected + conv.bias.view(-1, 1, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
def test_gradients_with_channels_last(modulated: bool, kernel_size: int) -> None:
    torch.manual_seed(0)
    conv: Any = DeformConv2d(3, 2, kernel_size, padding=kernel_size // 2, modulated=modulated)
    nn.init.normal_(conv.offset.weight, std=0.5)
    other = copy.deepcopy(conv).to(memory_format=torch.channels_last)
    x, upstream = torch.randn(2, 3, 5, 4), torch.randn(2, 2, 5, 4)
    conv(x).backward(upstream)
    other(x.contiguous(memory_format=torch.channels_last)).backward(upstream)
    for one, two in zip(conv.parameters(), other.parameters()):
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("modulated", "share"), [(False, 1.0), (True, 0.5)], ids=["v1", "v2"])
def test_begins_as_a_plain_convolution(modulated: bool, share: float) -> None:
    torch.manual_seed(0)
    conv = DeformConv2d(6, 5, 3, padding=1, bias=False, modulated=modulated)
    x = torch.randn(2, 6, 8, 7)
    expected = share * F.conv2d(x, conv.weight, padding=1)
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)
    conv(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in conv.parameters())


def test_norm_and_activation_follow() -> None:
    x = torch.randn(2, 3, 5, 5)
    conv = DeformConv(3, 4, 3, padding=1, bias=True, norm=nn.BatchNorm2d(4), activation=nn.ReLU())
    out = conv(x, torch.zeros(2, 18, 5, 5))
    plain = F.conv2d(x, conv.weight, conv.bias, padding=1)
    expected = F.batch_norm(plain, None, None, training=True).relu()
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
def test_runs_under_autocast(modulated: bool) -> None:
    torch.manual_seed(0)
    conv = DeformConv2d(4, 4, 3, padding=1, modulated=modulated)
    nn.init.normal_(conv.offset.bias)
    x = torch.randn(1, 4, 6, 6).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = conv(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), conv(x.float()), rtol=0.02, atol=0.02)
    out.float().sum().backward()
    assert all(parameter.grad is not None for parameter in conv.parameters())


@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
def test_a_resnet_with_deformable_stages_trains(modulated: bool) -> None:
    originals = resnet.DeformConv, resnet.ModulatedDeformConv
    model = tiny_model(
        opts=[
            *("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, True, True, True]),
            *("MODEL.RESNETS.DEFORM_MODULATED", modulated),
        ]
    )
    assert (resnet.DeformConv, resnet.ModulatedDeformConv) == originals
    deformable = {
        name.removeprefix("backbone.bottom_up.")
        for name, module in model.named_modules()
        if isinstance(module, DeformConv)
    }
    # ResNet-50 has 4, 6 and 3 blocks in these stages.
    stages = {"res3": 4, "res4": 6, "res5": 3}
    assert deformable == {
        f"{res}.{i}.conv2" for res, blocks in stages.items() for i in range(blocks)
    }
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    sum(model([picture()]).values()).backward()
    offsets = {n: p for n, p in model.named_parameters() if "conv2_offset" in n}
    assert len(offsets) == 2 * 13
    for name, parameter in offsets.items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    optimizer.step()
    assert all(parameter.abs().sum() > 0 for parameter in offsets.values())


def test_the_names_are_put_back_after_an_error() -> None:
    originals = resnet.DeformConv, resnet.ModulatedDeformConv

    def fail() -> None:
        with torchvision_deform_conv():
            assert resnet.DeformConv is resnet.ModulatedDeformConv is DeformConv
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (resnet.DeformConv, resnet.ModulatedDeformConv) == originals


TOWERS = ("category_branch.tower", "kernel_tower")


@pytest.mark.parametrize(
    ("opts", "deformable"),
    [
        ([], set()),
        # These two alone change nothing.
        (["MODEL.SOLOV2.TYPE_DCN", "DCNv2", "MODEL.SOLOV2.DCN_CONVS", "last"], set()),
        (
            ["MODEL.SOLOV2.USE_DCN_IN_INSTANCE", True],
            {f"head.{tower}.{index}" for tower in TOWERS for index in range(3)},
        ),
        (
            ["MODEL.SOLOV2.USE_DCN_IN_INSTANCE", True, "MODEL.SOLOV2.DCN_CONVS", "last"],
            {f"head.{tower}.2" for tower in TOWERS},
        ),
        (
            ["MODEL.SOLOV2.USE_DCN_IN_MASK", True, "MODEL.SOLOV2.DCN_CONVS", "last"],
            {
                "mask_branch.projection",
                *(
                    f"mask_branch.levels.{level}.{index}"
                    for level in range(4)
                    for index in range(max(level, 1))
                ),
            },
        ),
    ],
    ids=["none", "no use", "all", "last", "mask"],
)
@pytest.mark.parametrize("kind", ["DCN", "DCNv2"])
def test_keys_choose_the_deformable_convolutions(
    opts: list, deformable: set[str], kind: str
) -> None:
    common = ["MODEL.SOLOV2.NUM_INSTANCE_CONVS", 3, "MODEL.SOLOV2.TYPE_DCN", kind]
    model = tiny_model(opts=common + opts)
    found = {
        name.removesuffix(".conv"): module
        for name, module in model.named_modules()
        if isinstance(module, DeformConv2d)
    }
    assert set(found) == deformable
    assert all(module.modulated == (kind == "DCNv2") for module in found.values())


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_model_with_every_deformable_convolution_trains(order: torch.memory_format) -> None:
    model: Any = tiny_model(
        opts=[
            *("MODEL.SOLOV2.USE_DCN_IN_INSTANCE", True, "MODEL.SOLOV2.TYPE_DCN", "DCNv2"),
            *("MODEL.SOLOV2.USE_DCN_IN_MASK", True),
        ]
    )
    model = model.to(memory_format=order)
    sum(model([picture()]).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
