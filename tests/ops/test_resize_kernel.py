"""The kernel that resizes masks, compiled where there is a GPU and else in Triton's interpreter."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from solo_family.ops import join_boxes_triton
from solo_family.ops import resize_masks_triton as module
from solo_family.ops.resize_masks_triton import resize_masks_triton
from tests.ops.test_triton_kernels import random_logits

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INFINITY = float("inf")


@pytest.fixture(autouse=True)
def fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes as long for a step whatever the number of its elements."""
    if DEVICE == "cpu":
        sizes = {"_REGION_HEIGHT": 64, "_REGION_WIDTH": 128, "_ROWS": 32}
        for name, size in (sizes | {"_LOOK_HEIGHT": 16, "_LOOK_WIDTH": 64}).items():
            monkeypatch.setattr(module, name, size)


def interpolated(soft: Tensor, size: tuple[int, int]) -> Tensor:
    if soft.shape[1:] == size:
        return soft
    return F.interpolate(soft[None], size=size, mode="bilinear", align_corners=False)[0]


def assert_resized(
    soft: Tensor,
    padded: tuple[int, int],
    image: tuple[int, int],
    output: tuple[int, int],
    threshold: float,
) -> None:
    masks, boxes = resize_masks_triton(soft.to(DEVICE), padded, image, output, threshold)
    values = interpolated(soft.float().cpu(), padded)[:, : image[0], : image[1]]
    expected = interpolated(values, output)
    # NaN is not above any threshold.
    sure = ~((expected - threshold).abs() <= 1e-6 * max(1, abs(threshold)))
    assert masks.dtype == torch.bool
    assert torch.equal(masks.cpu()[sure], expected[sure] > threshold)
    for mask, box in zip(masks.cpu(), boxes.tolist()):
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else []
        assert box == ([float(edge) for edge in edges] or [0, 0, 0, 0])


@pytest.mark.parametrize(
    ("padded", "image", "output"),
    [
        ((64, 96), (61, 83), (45, 61)),
        ((64, 96), (33, 96), (70, 131)),
        ((32, 32), (1, 1), (1, 1)),
        ((32, 64), (32, 64), (32, 64)),
        ((256, 1024), (256, 1000), (9, 13)),
    ],
)
def test_resizing(padded: tuple[int, int], image: tuple[int, int], output: tuple[int, int]) -> None:
    soft = random_logits(3, (padded[0] // 4, padded[1] // 4)).sigmoid()
    soft[1] = 0.1
    assert_resized(soft, padded, image, output, 0.5)


def plateaus() -> Tensor:
    """Masks of which regions of the output are wholly outside, or inside, or crossed by an edge."""
    soft = torch.full((3, 24, 40), 0.1)
    soft[0, 3:20, 5:33] = 0.9
    soft[1] = 0.9
    soft[2, 23, 39] = 0.9
    return soft


@pytest.mark.parametrize(
    "threshold", [0.5, -2.0, *(pytest.param(value, marks=pytest.mark.slow) for value in (0.0, 7.5))]
)
@pytest.mark.parametrize("output", [(70, 150), (11, 13)])
def test_regions_outside_and_inside(output: tuple[int, int], threshold: float) -> None:
    scale = 2 * abs(threshold - 0.5) if threshold != 0.5 else 1.0
    soft = threshold + (plateaus() - 0.5) * scale
    assert_resized(soft, (96, 160), (96, 150), output, threshold)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves(dtype: torch.dtype) -> None:
    assert_resized(plateaus().to(dtype), (96, 160), (96, 150), (70, 131), 0.5)


def test_what_is_at_the_threshold_is_outside() -> None:
    """Interpolating equal powers of two rounds nothing."""
    for threshold in (0.5, -2.0, 0.0):
        soft = torch.full((1, 24, 40), threshold, device=DEVICE)
        masks, boxes = resize_masks_triton(soft, (96, 160), (96, 150), (70, 131), threshold)
        assert not masks.any()
        assert boxes.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("value", [math.nan, INFINITY, -INFINITY])
@pytest.mark.parametrize(
    ("padded", "image", "output"),
    [
        ((96, 160), (96, 150), (30, 41)),
        pytest.param((24, 40), (24, 40), (24, 40), marks=pytest.mark.slow),
        pytest.param((24, 40), (24, 40), (48, 80), marks=pytest.mark.slow),
        pytest.param((48, 80), (24, 40), (24, 40), marks=pytest.mark.slow),
    ],
)
def test_what_is_not_finite(
    padded: tuple[int, int], image: tuple[int, int], output: tuple[int, int], value: float
) -> None:
    soft = plateaus()
    soft[:, 4, 6] = soft[:, 0, 0] = soft[:, 10, 38:] = value
    assert_resized(soft, padded, image, output, 0.5)


def test_masks_of_nan_alone() -> None:
    assert_resized(torch.full((1, 24, 40), math.nan), (96, 160), (96, 150), (20, 31), 0.5)


def test_any_strides() -> None:
    soft = plateaus().to(DEVICE)
    wide = torch.full((6, 30, 43), math.nan, device=DEVICE)
    wide[::2, 2:26, 3:] = soft
    shifted = torch.full((soft.numel() + 1,), math.nan, device=DEVICE)
    shifted[1:] = soft.flatten()
    same = [
        wide[::2, 2:26, 3:],
        shifted[1:].view_as(soft),
        soft.permute(1, 2, 0).contiguous().permute(2, 0, 1),
        soft.transpose(1, 2).contiguous().transpose(1, 2),
        soft[:1].expand(3, -1, -1),
    ]
    for masks in same:
        assert_resized(masks, (96, 160), (96, 150), (20, 31), 0.5)


def test_rows_beside_each_other_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = torch.rand(8, 30, 43, device=DEVICE)[::2, 2:26, 3:]
    monkeypatch.setattr(Tensor, "contiguous", lambda tensor: pytest.fail("copied"))
    resize_masks_triton(wide, (96, 160), (96, 150), (7, 13), 0.5)


def test_boxes_of_more_regions_than_are_joined_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join_boxes_triton, "_JOINED", 2)
    assert_resized(plateaus(), (96, 160), (96, 150), (70, 131), 0.5)


@pytest.mark.parametrize(("count", "output"), [(0, (60, 50)), (2, (0, 5))])
def test_nothing(count: int, output: tuple[int, int]) -> None:
    given = torch.zeros(count, 8, 8, device=DEVICE), (32, 32), (30, 30), output, 0.5
    masks, boxes = resize_masks_triton(*given)
    assert masks.shape == (count, *output)
    assert boxes.tolist() == [[0, 0, 0, 0]] * count
