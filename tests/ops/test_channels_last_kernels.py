"""Kernels for maps with channels last, compiled where there is a GPU, else interpreted."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from solo_family.modeling import transfer
from solo_family.modeling.transfer import normalise
from solo_family.ops import channels_last, gpu_kernels, group_norm_triton, resize_maps
from solo_family.ops.decode_masks import dynamic_conv_in_float32
from solo_family.ops.group_norm_relu import group_norm_relu
from solo_family.ops.max_pool import max_pool
from solo_family.ops.resize_maps import add_enlarged, resize_map, upsample_twofold

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that were used."""
    names: list[str] = []

    def runs(kernel: str, tensor: Tensor) -> bool:
        names.append(kernel)
        return True

    monkeypatch.setattr(gpu_kernels, "runs", runs)
    return names


def maps(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator) * 2 + torch.arange(shape[2])[:, None] / 3
    return values.to(DEVICE, dtype).to(memory_format=torch.channels_last)


def assert_near(found: Tensor, expected: Tensor) -> None:
    assert found.is_contiguous(memory_format=torch.channels_last)
    unit = torch.finfo(found.dtype).eps
    torch.testing.assert_close(
        found.cpu().double(), expected.cpu(), rtol=2 * unit, atol=max(2e-5, unit)
    )


def normalised(x: Tensor, groups: int, weight: Tensor, bias: Tensor) -> Tensor:
    """Group norm by its definition, in float64."""
    b, c, h, w = x.shape
    values = x.cpu().double().contiguous().view(b, groups, -1)
    mean = values.mean(2, keepdim=True)
    deviation = ((values - mean) ** 2).mean(2, keepdim=True).add(1e-5).sqrt()
    result = ((values - mean) / deviation).view(b, c, h, w)
    return result * weight.cpu().double().view(-1, 1, 1) + bias.cpu().double().view(-1, 1, 1)


@pytest.mark.parametrize(
    ("channels", "groups", "dtype", "relu"),
    [
        (16, 8, torch.float16, True),
        (16, 8, torch.bfloat16, False),
        (33, 11, torch.float32, True),  # three channels in a group
        (6, 6, torch.float32, False),
        (12, 1, torch.float32, False),
    ],
)
@pytest.mark.parametrize("small", [True, False])
def test_group_norm(
    dtype: torch.dtype,
    relu: bool,
    channels: int,
    groups: int,
    small: bool,
    monkeypatch: pytest.MonkeyPatch,
    used: list[str],
) -> None:
    monkeypatch.setattr(group_norm_triton, "_HELD", 4096)
    if not small:  # in parts of so many pixels, of which the last is not full
        monkeypatch.setattr(group_norm_triton, "_HELD", 64)
        monkeypatch.setattr(group_norm_triton, "_PART", 64)
        monkeypatch.setattr(group_norm_triton, "_MERGED", 2)
        monkeypatch.setattr(group_norm_triton, "_STEP", 2048)
    x = maps(2, channels, 13, 17, dtype=dtype)
    weight, bias = (maps(1, channels, 1, 1, dtype=dtype, seed=seed).flatten() for seed in (1, 2))
    found = group_norm_relu(x, groups, weight, bias, 1e-5, relu)
    expected = normalised(x, groups, weight, bias)
    assert_near(found, expected.relu() if relu else expected)
    assert used == ["group_norm"]


def test_a_large_mean_does_not_swallow_the_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_norm_triton, "_HELD", 64)
    x = maps(1, 8, 20, 40) / 100 + 1000
    one, none = torch.ones(8, device=DEVICE), torch.zeros(8, device=DEVICE)
    found = group_norm_relu(x, 2, one, none, 1e-5)
    torch.testing.assert_close(found.cpu().double(), normalised(x, 2, one, none), rtol=0, atol=2e-2)


@pytest.mark.parametrize("small", [True, False])
def test_nan_stays_where_it_is_in_its_group(small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not small:
        monkeypatch.setattr(group_norm_triton, "_HELD", 64)
    x = maps(1, 8, 20, 15)
    x[0, 5, 3, 4] = float("nan")
    found = group_norm_relu(x, 2, None, None, 1e-5, relu=True)
    assert found[0, :4].isfinite().all()
    assert found[0, 4:].isnan().all()


@pytest.mark.parametrize(
    ("dtype", "size", "channels"),
    [
        (torch.float16, (10, 14), 3),
        (torch.bfloat16, (3, 29), 3),
        (torch.float32, (7, 5), 264),
        (torch.float32, (2, 1), 3),
        (torch.float32, (5, 7), 3),
    ],
)
def test_resizing(
    dtype: torch.dtype, size: tuple[int, int], channels: int, used: list[str]
) -> None:
    x = maps(2, channels, 5, 7, dtype=dtype)
    of = x.cpu().double().contiguous()
    assert_near(resize_map(x, size), F.interpolate(of, size=size, mode="bilinear"))
    other = maps(2, channels, *size, dtype=dtype, seed=3)
    expected = other.cpu().double() + F.interpolate(of, size=size, mode="nearest")
    assert_near(add_enlarged(other, x), expected)
    assert used == ["resize_maps"] * 2


def test_upsampling() -> None:
    x = maps(1, 4, 5, 7)
    of = x.cpu().double().contiguous()
    expected = F.interpolate(of, scale_factor=2, mode="bilinear", align_corners=False)
    assert_near(upsample_twofold(x), expected)
    other = maps(1, 4, 10, 14, seed=3)
    assert_near(upsample_twofold(x, other), other.cpu() + expected)
    contiguous = upsample_twofold(x.contiguous(), other.contiguous())
    torch.testing.assert_close(contiguous.cpu(), (other.cpu() + expected).float())


def test_torch_computes_what_needs_gradients_and_other_orders(used: list[str]) -> None:
    last = maps(1, 4, 5, 6).requires_grad_()
    contiguous = maps(1, 4, 5, 6).contiguous()
    for x in (last, contiguous):
        found = group_norm_relu(x, 2, None, None, 1e-5, relu=True)
        torch.testing.assert_close(found, torch.group_norm(x, 2).relu())
        assert found.stride() == x.stride()
        assert resize_map(x, (3, 4)).shape == (1, 4, 3, 4)
        assert add_enlarged(torch.cat([x, x], 3), x).shape == (1, 4, 5, 12)
    assert not used
    with torch.no_grad():
        group_norm_relu(last, 2, None, None, 1e-5)
    assert used == ["group_norm"]
    # What an exporter traces has none of our kernels.
    with torch.no_grad():
        torch.jit.trace(lambda x: resize_map(x, (3, 4)), last, check_trace=False)
    assert used == ["group_norm"]


def test_nothing_in_nothing_out() -> None:
    x = maps(0, 4, 5, 6)
    assert group_norm_relu(x, 2, None, None, 1e-5).shape == x.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("last", [True, False])
def test_normalising(dtype: torch.dtype, last: bool, used: list[str]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randint(0, 256, (3, 37, 50), dtype=torch.uint8, generator=generator),
        torch.rand(41, 29, 3, generator=generator).permute(2, 0, 1) * 255,  # of other strides
    ]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([103.5, 116.3, 123.7], [57.4, 57.1, 58.4]))
    found = normalise(
        [image.to(DEVICE) for image in images], mean.to(DEVICE), std.to(DEVICE), 32, (0, 90),
        dtype, last,
    )  # fmt: skip
    assert found.shape == (2, 3, 64, 96)
    assert found.is_contiguous(memory_format=torch.channels_last) == last
    for image, one in zip(images, found.cpu()):
        height, width = image.shape[1:]
        # To the last bit: the same operations of float32 as torch's. (Triton's interpreter cuts
        # bfloat16 off instead of rounding it.)
        expected = ((image - mean) / std).to(dtype)
        unit = torch.finfo(dtype).eps if (DEVICE, dtype) == ("cpu", torch.bfloat16) else 0
        torch.testing.assert_close(one[:, :height, :width], expected, rtol=unit, atol=0)
        assert not one[:, height:].any()
        assert not one[:, :, width:].any()
    assert used == ["normalise"]


def test_normalising_a_part_of_a_very_large_image() -> None:
    """Its third channel is further away than 32 bits say; memory that is not written takes none."""
    plane = 2**30 + 8
    whole = torch.empty(2 * plane + 64, dtype=torch.uint8, device=DEVICE)
    image = whole.as_strided((3, 4, 5), (plane, 5, 1))
    image.copy_(torch.arange(60, dtype=torch.uint8).view(3, 4, 5))
    mean, std = torch.ones(3, 1, 1, device=DEVICE), torch.full((3, 1, 1), 2.0, device=DEVICE)
    found = normalise([image], mean, std, 1)
    assert torch.equal(found[0], (image - mean) / std)


def test_images_that_the_kernel_does_not_know_are_normalised_by_torch() -> None:
    images = [torch.randint(0, 60000, (3, 20, 31), dtype=torch.int32, device=DEVICE)]
    mean, std = torch.ones(3, 1, 1, device=DEVICE), torch.full((3, 1, 1), 2.0, device=DEVICE)
    found = normalise(images, mean, std, 32, dtype=torch.float16)
    assert found.dtype == torch.float16
    assert torch.equal(found[0, :, :20, :31], ((images[0] - mean) / std).half())


def test_float32_logits_of_halves() -> None:
    kernels, features = maps(1, 8, 1, 5).flatten(0, 2), maps(1, 5, 6, 7)[0]
    expected = torch.einsum("ne,ehw->nhw", kernels.double(), features.double())
    for types in ((torch.float16, torch.float16), (torch.bfloat16, torch.float32)):
        given = [one.to(dtype) for one, dtype in zip((kernels, features), types)]
        found = dynamic_conv_in_float32(*given)
        assert found.dtype == torch.float32
        exact = torch.einsum("ne,ehw->nhw", *(one.double() for one in given))
        torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        dynamic_conv_in_float32(kernels, features).double(), expected, rtol=1e-2, atol=1e-2
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [(12, 9), (1, 4), (5, 2)])
def test_pooling(dtype: torch.dtype, size: tuple[int, int], used: list[str]) -> None:
    x = maps(2, 20, *size, dtype=dtype)
    x[0, 3, 0, 1] = float("nan")
    x[1, 4] = -float("inf")
    expected = F.max_pool2d(x.cpu().contiguous(), kernel_size=3, stride=2, padding=1)
    found = max_pool(x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=0, equal_nan=True)
    assert used == ["max_pool"]
    assert torch.equal(max_pool(x[1:].contiguous()), F.max_pool2d(x[1:], 3, 2, 1))
    assert used == ["max_pool"]


def test_torch_refuses_sums_of_maps_that_do_not_fit(used: list[str]) -> None:
    """The kernel would read beyond the smaller ones."""
    x = maps(1, 4, 5, 7)
    with pytest.raises(RuntimeError, match="must match"):
        upsample_twofold(x, maps(1, 4, 9, 14))
    assert upsample_twofold(x.half(), maps(1, 4, 10, 14)).dtype == torch.float32
    assert not used


def test_an_image_of_too_many_values_is_left_to_torch(
    monkeypatch: pytest.MonkeyPatch, used: list[str]
) -> None:
    """Kernels count in 32 bits."""
    for module in (channels_last, resize_maps, transfer):
        monkeypatch.setattr(module, "MOST_VALUES", 1000)
    x = maps(2, 4, 5, 7)
    resize_map(x, (20, 20))  # to more
    group_norm_relu(maps(1, 4, 20, 20), 2, None, None, 1e-5)
    mean, std = torch.ones(3, 1, 1, device=DEVICE), torch.ones(3, 1, 1, device=DEVICE)
    normalise([torch.zeros(3, 20, 20, device=DEVICE)], mean, std, 4)
    assert "group_norm" not in used
    found = normalise([torch.zeros(3, 8, 8, device=DEVICE)], mean, std, 4)
    resize_map(x, (10, 10))
    assert found.shape == (1, 3, 8, 8)
