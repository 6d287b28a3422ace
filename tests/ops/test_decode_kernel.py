"""The kernel that decodes masks, compiled where there is a GPU and else in Triton's interpreter."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from solo_family.ops import decode_masks_triton as module
from solo_family.ops import decode_tiles, gpu_kernels
from solo_family.ops.decode_masks import _decode_masks, decode_masks
from solo_family.ops.packed_masks import PackedMasks, unpack_masks
from tests.ops.test_triton_kernels import assert_packed

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
THRESHOLD = 0.6
FLOAT = torch.zeros(1)


@pytest.fixture(params=["kernel", "torch"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = request.param == "kernel"
    monkeypatch.setattr(gpu_kernels, "runs", lambda kernel, tensor: runs)


def eighths(*shape: int, seed: int) -> Tensor:
    """Every sum of their products is exact, in halves as in float32."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * 8).round() / 8


def expected(kernels: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    probability = torch.einsum("ne,ehw->nhw", kernels.double(), features.double()).sigmoid()
    assert (probability - THRESHOLD).abs().min() > 1e-6
    return probability > THRESHOLD, probability


def layouts(features: Tensor) -> dict[str, Tensor]:
    """The same values [E, H, W] otherwise in memory."""
    channels, height, width = features.shape
    apart = torch.zeros(2 * channels, height * width + 8, device=DEVICE, dtype=features.dtype)
    apart[::2, : height * width] = features.flatten(1)
    shifted = torch.zeros(features.numel() + 1, device=DEVICE, dtype=features.dtype)
    shifted[1:] = features.flatten()
    columns = torch.zeros(channels, height, 2 * width, device=DEVICE, dtype=features.dtype)
    columns[:, :, ::2] = features
    return {
        "contiguous": features.contiguous(),
        "channels last": features.permute(1, 2, 0).contiguous().permute(2, 0, 1),
        "every second map": apart[::2, : height * width].unflatten(1, (height, width)),
        "unaligned": shifted[1:].view_as(features),
        "transposed": features.transpose(1, 2).contiguous().transpose(1, 2),
        "every second column": columns[:, :, ::2],
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("channels", "size"), [(24, (4, 10)), (19, (5, 7))])
def test_any_strides(channels: int, size: tuple[int, int], dtype: torch.dtype) -> None:
    kernels, features = eighths(5, channels, seed=0), eighths(channels, *size, seed=1)
    inside, probability = expected(kernels, features)
    for layout in layouts(features.to(DEVICE, dtype)).values():
        packed = module.decode_masks_triton(kernels.to(DEVICE, dtype), layout, THRESHOLD)
        assert_packed(packed, inside, probability)
    by_column = kernels.to(DEVICE, dtype).t().contiguous().t()
    for given in (by_column, torch.cat([by_column] * 2, dim=1)[:, channels:]):
        packed = module.decode_masks_triton(given, layout, THRESHOLD)
        assert_packed(packed, inside, probability)


def test_how_each_layout_is_read() -> None:
    kernels = eighths(5, 24, seed=0).half().to(DEVICE)
    read = {
        name: decode_tiles.layout_of(kernels, features.flatten(1))
        for name, features in layouts(eighths(24, 4, 10, seed=1).half().to(DEVICE)).items()
    }
    assert read == {
        "contiguous": "pixels",
        "channels last": "channels",
        "every second map": "pixels",
        "unaligned": "any",
        "transposed": "pixels",  # after a copy
        "every second column": "any",
    }
    features = eighths(24, 4, 10, seed=1).half().to(DEVICE)
    assert decode_tiles.layout_of(kernels, features[:, :, :9].flatten(1)) == "any"
    assert decode_tiles.layout_of(kernels[:, :23], features[:23].flatten(1)) == "any"


def test_features_of_one_dimension_of_pixels_are_not_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features = layouts(eighths(24, 4, 10, seed=1).to(DEVICE))
    given = []
    layout = decode_tiles.layout_of
    monkeypatch.setattr(
        module, "layout_of", lambda kernels, flat: given.append(flat) or layout(kernels, flat)
    )
    for name in features.keys() - {"transposed"}:
        module.decode_masks_triton(eighths(5, 24, seed=0).to(DEVICE), features[name], THRESHOLD)
        assert given[-1].data_ptr() == features[name].data_ptr()


@pytest.mark.parametrize(
    ("capability", "tiles", "precision"), [((7, 5), False, "ieee"), ((8, 0), True, "tf32")]
)
def test_gpus_without_tensor_cores_for_it_multiply_single_numbers(
    capability: tuple[int, int], tiles: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There each of them would be multiplied in six parts, in more registers than there are."""
    kernels: Any = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(module, "tf32_allowed", lambda: True)
    monkeypatch.setattr(module.triton, "JITFunction", object)
    assert decode_tiles.multiplies_tiles(kernels.device) is tiles
    assert module._precision(kernels) == precision
    tile = decode_tiles.tile_for("pixels", kernels, precision)
    assert (tile == decode_tiles._SCATTERED) is not tiles


class Launches:
    """Stands for a kernel, and keeps the numbers of programs along each axis."""

    def __init__(self) -> None:
        self.grids: list[tuple[int, ...]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        self.grids.append(grid)
        return lambda *_, **__: None


def test_features_of_a_large_picture_are_not_too_many_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 8,192 x 8,448 pixels at stride 4: CUDA launches 65,535 programs along y and z at most."""
    launches = Launches()
    for name in ("_decode_kernel", "_add_kernel"):
        monkeypatch.setattr(module, name, launches)
    module.decode_masks_triton(torch.zeros(130, 1), torch.zeros(1, 2048, 2112), THRESHOLD)
    decoding, adding = launches.grids
    assert math.prod(decoding) == 3 * 2048 * 2112 // 64
    for grid in (decoding, adding):
        assert all(number <= 65_535 for number in grid[1:])


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("channels", [24, 19])
def test_some_rows_in_their_order(channels: int) -> None:
    kernels, features = eighths(9, channels, seed=0), eighths(channels, 5, 7, seed=1)
    rows = torch.tensor([8, 0, 3, 3])
    packed = decode_masks(kernels.to(DEVICE), features.to(DEVICE), 0.6, rows=rows.to(DEVICE))
    assert_packed(packed, *expected(kernels[rows], features))
    nothing = decode_masks(kernels.to(DEVICE), features.to(DEVICE), 0.6, rows=rows[:0].to(DEVICE))
    assert (len(nothing.words), len(nothing.areas), len(nothing.maskness)) == (0, 0, 0)
    every_second = torch.tensor([8, 1, 0, 1, 3, 1, 3, 1], device=DEVICE)[::2]
    again = decode_masks(kernels.to(DEVICE), features.to(DEVICE), 0.6, rows=every_second)
    assert torch.equal(again.words, packed.words)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("number", [-1, 0, 1, 130, 200, 201])
def test_only_leading_masks_are_wanted(number: int, dtype: torch.dtype) -> None:
    """More masks than one program's, so that some have none to do, and one has some."""
    kernels, features = eighths(200, 8, seed=0), eighths(8, 2, 3, seed=1)
    inside, probability = expected(kernels, features)
    inside[max(0, number) :] = False
    valid = torch.tensor(number, dtype=dtype, device=DEVICE)
    packed = decode_masks(kernels.to(DEVICE), features.to(DEVICE), 0.6, valid=valid)
    packed.words[max(0, number) :] = 0  # They are undefined.
    assert_packed(packed, inside, probability)


@pytest.mark.parametrize(("number", "written"), [(0, 0), (130, 130), (200, 200)])
def test_masks_that_are_not_wanted_are_not_written(
    number: int, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By programs that have none to do, nor by one that has some."""
    empty, kernels = module.empty_packed, eighths(200, 8, seed=0).to(DEVICE)
    monkeypatch.setattr(
        module, "empty_packed", lambda *given: PackedMasks(*(x.fill_(-1) for x in empty(*given)))
    )
    valid, features = torch.tensor(number, device=DEVICE), torch.ones(8, 2, 3, device=DEVICE)
    packed = module.decode_masks_triton(kernels, features, 0.6, valid=valid)
    assert (packed.words != -1).sum() == written
    assert packed.areas[number:].tolist() == [0] * (200 - number)
    assert packed.maskness[number:].tolist() == [0] * (200 - number)


@pytest.mark.usefixtures("either_way")
def test_leading_ones_of_some_rows() -> None:
    kernels, features = eighths(9, 8, seed=0), eighths(8, 5, 7, seed=1)
    rows, valid = torch.tensor([8, 0, 3, 3, 5]), torch.tensor([3])
    given = (kernels.to(DEVICE), features.to(DEVICE), 0.6)
    packed = decode_masks(*given, rows=rows.to(DEVICE), valid=valid.to(DEVICE))
    packed.words[3:] = 0  # They are undefined.
    inside, probability = expected(kernels[rows], features)
    inside[3:] = False
    assert_packed(packed, inside, probability)


def test_masks_of_more_parts_than_are_added_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ADDED_PARTS", 2)
    kernels, features = eighths(11, 8, seed=0), eighths(8, 20, 16, seed=1)
    packed = module.decode_masks_triton(kernels.to(DEVICE), features.to(DEVICE), THRESHOLD)
    assert_packed(packed, *expected(kernels, features))


def test_the_operator_declares_what_it_gives() -> None:
    given = (torch.rand(5, 4), torch.rand(4, 5, 7), 0.5, torch.tensor([3, 1]), torch.tensor(1))
    torch.library.opcheck(_decode_masks, given, test_utils=("test_schema", "test_faketensor"))


def test_how_float32_is_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    assert DEVICE == "cuda" or module._precision(FLOAT) == "float32"
    monkeypatch.setattr(module, "_decode_kernel", object.__new__(module.triton.JITFunction))
    monkeypatch.setattr(module.triton, "__version__", "3.6.0")
    for allowed, expected_precision in ((True, "tf32"), (False, "bf16x6")):
        monkeypatch.setattr(module, "tf32_allowed", lambda allowed=allowed: allowed)
        assert module._precision(FLOAT) == expected_precision
        assert module._precision(FLOAT.half()) == "tf32"
    monkeypatch.setattr(module.triton, "__version__", "3.5.1")
    assert module._precision(FLOAT) == "tf32x3"


def test_float32_is_multiplied_as_precisely_as_torch_does() -> None:
    """Bits differ from float64 only where the sum's own rounding decides."""
    generator = torch.Generator().manual_seed(0)
    kernels = torch.randn(40, 256, generator=generator)
    features = torch.randn(256, 16, 24, generator=generator)
    exact = torch.einsum("ne,ehw->nhw", kernels.double(), features.double())
    scale = torch.einsum("ne,ehw->nhw", kernels.abs().double(), features.abs().double())
    packed = module.decode_masks_triton(kernels.to(DEVICE), features.to(DEVICE), 0.5)
    inside = unpack_masks(packed.words.cpu(), (16, 24))
    unsure = exact.abs() <= 256 * 2**-24 * scale / 4
    assert unsure.float().mean() < 0.01
    assert torch.equal(inside[~unsure], (exact > 0)[~unsure])
