import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from solo_family.modeling.layers import ConvNormReLU, ConvTower, DeformConv2d, make_norm


@pytest.mark.parametrize(
    ("norm", "kind"),
    [
        ("GN", nn.GroupNorm),
        ("BN", nn.BatchNorm2d),
        ("FrozenBN", FrozenBatchNorm2d),
        ("nnSyncBN", nn.SyncBatchNorm),
        ("", type(None)),
    ],
)
@pytest.mark.parametrize("dcn", ["", "DCN", "DCNv2"])
def test_norm_kinds_and_the_bias_without(norm: str, kind: type, dcn: str) -> None:
    block = ConvNormReLU(4, 8, norm=norm, dcn=dcn)
    assert isinstance(block.norm, kind)
    assert (block.conv.bias is None) == (norm != "")
    if norm == "":
        assert (block.conv.bias == 0).all()
    assert isinstance(block.conv, DeformConv2d if dcn else nn.Conv2d)
    if dcn:
        assert block.conv.modulated == (dcn == "DCNv2")


@pytest.mark.parametrize(("channels", "groups"), [(512, 32), (64, 32), (48, 16), (16, 16), (7, 1)])
def test_groups(channels: int, groups: int) -> None:
    norm = make_norm("GN", channels)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups
    x = torch.randn(2, channels, 3, 4)
    torch.testing.assert_close(norm(x), F.group_norm(x, groups))


def test_group_norm_takes_single_values() -> None:
    norm = make_norm("GN", 16)
    assert norm is not None
    nn.init.normal_(norm.bias)
    x = torch.randn(1, 16, 1, 1, requires_grad=True)
    # A group of one value is normalised to 0; the bias is what remains.
    torch.testing.assert_close(norm(x).flatten(), norm.bias, rtol=0, atol=1e-4)
    norm(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("norm", ["GN", "BN", ""])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_is_convolution_norm_relu(norm: str, kernel_size: int) -> None:
    torch.manual_seed(0)
    block = ConvNormReLU(4, 8, kernel_size, norm=norm)
    x = torch.randn(2, 4, 5, 6)
    if block.conv.bias is not None:
        nn.init.normal_(block.conv.bias)
    expected = F.conv2d(x, block.conv.weight, block.conv.bias, padding=kernel_size // 2)
    if norm == "GN":
        expected = F.group_norm(expected, 8)
    elif norm == "BN":
        expected = F.batch_norm(expected, None, None, training=True)
    torch.testing.assert_close(block(x), expected.relu(), rtol=1e-4, atol=1e-5)


def test_a_tower_has_its_channels_and_deformable_convolutions() -> None:
    tower = ConvTower(5, 8, 3, norm="GN", dcn="DCN", dcn_convs="last")
    assert [tuple(block.conv.weight.shape[:2]) for block in tower] == [(8, 5), (8, 8), (8, 8)]
    assert [isinstance(block.conv, DeformConv2d) for block in tower] == [False, False, True]
    tower = ConvTower(5, 8, 3, norm="GN", dcn="DCN", dcn_convs="all")
    assert all(isinstance(block.conv, DeformConv2d) for block in tower)
    assert tower(torch.randn(1, 5, 4, 4)).shape == (1, 8, 4, 4)


@pytest.mark.parametrize("dcn", ["", "DCNv2"])
def test_convolutions_start_small(dcn: str) -> None:
    torch.manual_seed(0)
    for block in ConvTower(32, 32, 2, dcn=dcn):
        assert block.conv.weight.std().item() == pytest.approx(0.01, rel=0.05)
