"""Boxes of densely sliding windows against loops: the kernel's, maybe interpreted, and torch's."""

import math

import pytest
import torch
from torch import Tensor

from solo_family.ops import gpu_kernels, window_boxes_triton
from solo_family.ops import window_boxes as operator
from solo_family.ops.window_boxes import WindowBoxes, window_boxes

from ..versions import interpreted

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(params=["torch", pytest.param("triton", marks=interpreted)], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways; the interpreter takes as long for a step whatever the number of its elements."""
    monkeypatch.setattr(gpu_kernels, "runs", lambda *_: request.param == "triton")
    if DEVICE == "cpu":
        monkeypatch.setattr(window_boxes_triton, "_WINDOWS", 64)
        monkeypatch.setattr(window_boxes_triton, "_ROWS", 16)
    return request.param


def rounded(value: float) -> int:
    return math.floor(value + 0.5)


def by_loops(soft: Tensor, m: int, threshold: float) -> tuple[list[list[int]], list[float]]:
    """Section "From FCN to InstanceFCN": boxes, without corners where a mask is empty; means."""
    k = round(len(soft) ** 0.5)
    edges = [rounded(i * m / k) for i in range(k + 1)]
    bins = [i for i in range(k) for _ in range(edges[i], edges[i + 1])]
    height, width = soft.shape[1:]
    boxes, means = [], []
    for row in range(height):
        for column in range(width):
            ys: list[int] = []
            xs: list[int] = []
            values: list[float] = []
            for u in range(m):
                for v in range(m):
                    y, x = row - m // 2 + u, column - m // 2 + v
                    if not (0 <= y < height and 0 <= x < width):
                        continue
                    value = float(soft[bins[u] * k + bins[v], y, x])
                    if value > threshold:
                        ys, xs, values = [*ys, y], [*xs, x], [*values, value]
            boxes.append([min(xs), min(ys), max(xs) + 1, max(ys) + 1] if values else [])
            means.append(sum(values) / len(values) if values else 0.0)
    return boxes, means


def assert_as_loops(found: WindowBoxes, soft: Tensor, m: int, threshold: float) -> None:
    boxes, means = by_loops(soft, m, threshold)
    assert found.filled.tolist() == [bool(box) for box in boxes]
    for box, expected in zip(found.boxes.tolist(), boxes, strict=True):
        assert box == expected or (not expected and box[0] == box[2] and box[1] == box[3])
    assert found.maskness is not None
    assert found.maskness.tolist() == pytest.approx(means, abs=1e-6)


def random_maps(k: int, height: int, width: int) -> Tensor:
    """Sixteenths, so that some probabilities are a half exactly; and some windows are empty."""
    generator = torch.Generator().manual_seed(10 * k + height)
    values = torch.randn((k * k, height, width), generator=generator)
    return (values * 16 - 24).round().div(16)


@pytest.mark.parametrize(
    ("k", "m", "size"),
    [
        (1, 1, (1, 1)),
        (3, 5, (1, 1)),
        (3, 5, (8, 12)),
        (5, 7, (3, 70)),
        (2, 9, (11, 4)),
        pytest.param(7, 12, (6, 5), marks=pytest.mark.slow),
        pytest.param(5, 21, (13, 17), marks=pytest.mark.slow),
    ],
)
def test_equals_loops(k: int, m: int, size: tuple[int, int]) -> None:
    """Of windows that reach over the map's border, of bins that differ in size."""
    logits = random_maps(k, *size)
    found = window_boxes(logits.to(DEVICE), m, 0.5, maskness=True)
    assert found.boxes.dtype == found.maskness.dtype == torch.float32
    assert_as_loops(found, logits.sigmoid(), m, 0.5)


def test_rows_of_several_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask may be narrower below than above: its box is that of all rows."""
    monkeypatch.setattr(window_boxes_triton, "_ROWS", 4)
    logits = torch.full((9, 10, 10), -9.0)
    logits[:, 1, 2:9] = logits[:, 5, 4:6] = 9
    found = window_boxes(logits.to(DEVICE), 10, 0.5, maskness=True)
    assert_as_loops(found, logits.sigmoid(), 10, 0.5)


@pytest.mark.parametrize("threshold", [0.0, 1.0, 0.3, -0.5])
def test_thresholds(threshold: float) -> None:
    """No probability is above 1; every one is above 0, on the map; below 0 all cells count."""
    logits = random_maps(3, 4, 6)
    logits[:, 0, 0], logits[:, 1] = -200.0, 200.0
    found = window_boxes(logits.to(DEVICE), 5, threshold, maskness=True)
    if threshold < 0:
        assert (found.boxes[:, 2:] - found.boxes[:, :2]).unique().tolist() == [5]
    else:
        assert_as_loops(found, logits.sigmoid(), 5, threshold)


@pytest.mark.parametrize("value", [-9.0, 0.0, math.nan])
def test_nothing_above_the_threshold(value: float) -> None:
    """The sigmoid of 0 is a half, which isn't above a half."""
    found = window_boxes(torch.full((9, 4, 6), value, device=DEVICE), 5, 0.5, maskness=True)
    assert not found.filled.any()
    assert (found.boxes[:, :2] == found.boxes[:, 2:]).all()
    assert not found.maskness.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_compared_in_float32(dtype: torch.dtype) -> None:
    logits = random_maps(3, 5, 7).to(dtype)
    found = window_boxes(logits.to(DEVICE), 5, 0.5, maskness=True)
    assert_as_loops(found, logits.float().sigmoid(), 5, 0.5)


def test_any_strides() -> None:
    logits = random_maps(3, 5, 7)
    wide = torch.full((9, 8, 20), math.nan)
    wide[:, 1:6, 3:17:2] = logits
    last = logits.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for same in (wide[:, 1:6, 3:17:2], last, logits[:1].expand(9, -1, -1)):
        found = window_boxes(same.to(DEVICE), 5, 0.5, maskness=True)
        assert_as_loops(found, same.sigmoid(), 5, 0.5)


def test_chunks_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(operator, "_GPU_CHUNK_BYTES", 1)
    logits = random_maps(3, 4, 6)
    found = window_boxes(logits.to(DEVICE), 5, 0.5, maskness=True)
    assert_as_loops(found, logits.sigmoid(), 5, 0.5)
    assert window_boxes(logits.to(DEVICE), 5, 0.5).maskness is None


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (torch.zeros(8, 4, 4), "there are 8"),
        (torch.zeros(49, 4, 4), "at most the window's 5 cells"),
        (torch.zeros(1, 9, 4, 4), r"but are torch.float32 of the shape \(1, 9, 4, 4\)"),
        (torch.zeros(9, 4, 4, dtype=torch.int64), "floating-point"),
        (torch.zeros(9, 0, 4), "each at least 1"),
    ],
)
def test_other_maps_are_refused(maps: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        window_boxes(maps.to(DEVICE), 5, 0.5)


def test_no_assembled_window_is_in_memory(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's way doesn't assemble."""
    monkeypatch.setattr(operator, "soft_masks_of_rows", lambda *_: pytest.fail("assembled"))
    if way == "triton":
        assert window_boxes(random_maps(3, 4, 6).to(DEVICE), 5, 0.5).boxes.shape == (24, 4)
