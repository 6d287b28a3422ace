"""Masks pasted into boxes of an image: by the kernel, compiled or interpreted, and in torch."""

import math

import pytest
import torch
from torch import Tensor

from solo_family.ops import gpu_kernels, join_boxes_triton, paste_masks, paste_masks_triton
from solo_family.ops.paste_masks import paste_masks_with_boxes, paste_parts

from ..versions import interpreted

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
M = 5
WAYS = ["torch", pytest.param("triton", marks=interpreted)]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways; the interpreter takes as long for a step whatever the number of its elements."""
    monkeypatch.setattr(gpu_kernels, "runs", lambda *_: request.param == "triton")
    if DEVICE == "cpu":
        for name, size in {"_REGION_HEIGHT": 32, "_REGION_WIDTH": 64, "_ROWS": 32}.items():
            monkeypatch.setattr(paste_masks_triton, name, size)
    return request.param


def by_loops(mask: list[list[float]], box: list[float], size: tuple[int, int]) -> Tensor:
    """Bilinear values between the centres of cells; outside the mask they are 0."""
    m = len(mask)

    def taps(pixel: int, start: float, stop: float) -> list[tuple[int, float]]:
        place = (pixel + 0.5 - start) / (stop - start) * m - 0.5
        first = math.floor(place)
        both = (first, first + 1 - place), (first + 1, place - first)
        return [(cell, share) for cell, share in both if 0 <= cell < m]

    rows = [taps(y, box[1], box[3]) for y in range(size[0])]
    columns = [taps(x, box[0], box[2]) for x in range(size[1])]
    return torch.tensor(
        [
            [sum(p * q * mask[u][v] for u, p in row for v, q in column) for column in columns]
            for row in rows
        ],
        dtype=torch.float64,
    )


def random_inputs(count: int, longest: float) -> tuple[Tensor, Tensor]:
    """Of boxes within an image of 40 x 60, over its borders, beside it, and of no pixel."""
    generator = torch.Generator().manual_seed(count)
    masks = torch.rand((count, M, M), generator=generator)
    corners = torch.rand((count, 2), generator=generator) * torch.tensor([90.0, 70.0]) - 20
    sides = 0.2 + (longest - 0.2) * torch.rand((count, 2), generator=generator)
    return masks, torch.cat([corners, corners + sides], dim=1)


def assert_pasted(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float, longest: float
) -> None:
    found, around = paste_masks_with_boxes(
        masks.to(DEVICE), boxes.to(DEVICE), size, threshold, longest
    )
    assert found.dtype == torch.bool
    assert found.shape == (len(masks), *size)
    assert around.dtype == torch.float32
    for one, box, mask, its in zip(found.cpu(), around.tolist(), masks.tolist(), boxes.tolist()):
        expected = by_loops(mask, its, size)
        sure = (expected - threshold).abs() > 1e-5
        assert torch.equal(one[sure], expected[sure] >= threshold)
        rows, columns = one.any(1).nonzero().flatten(), one.any(0).nonzero().flatten()
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else []
        assert box == ([float(edge) for edge in edges] or [0, 0, 0, 0])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("threshold", [0.5, 0.1, 1.0])
@pytest.mark.parametrize(("size", "longest"), [((40, 60), 12.5), ((35, 70), 80.0), ((1, 1), 30.0)])
def test_equals_loops(size: tuple[int, int], longest: float, threshold: float) -> None:
    """Regions that the masks reach, that they don't reach, and that the image ends in."""
    assert_pasted(*random_inputs(6, longest), size, threshold, longest)


@pytest.mark.usefixtures("way")
def test_a_value_that_equals_the_threshold_is_inside() -> None:
    """As in detectron2; between equal powers of two nothing is rounded."""
    masks, boxes = torch.full((1, 4, 4), 0.5), torch.tensor([[8.0, 4.0, 16.0, 20.0]])
    found, _ = paste_masks_with_boxes(masks.to(DEVICE), boxes.to(DEVICE), (24, 24), 0.5, 16.0)
    expected = torch.zeros(24, 24, dtype=torch.bool)
    # Half a cell at the border is interpolated with the 0 outside.
    expected[6:18, 9:15] = True
    assert torch.equal(found[0].cpu(), expected)


@pytest.mark.usefixtures("way")
def test_what_is_not_a_number_is_outside() -> None:
    masks, boxes = random_inputs(3, 30.0)
    masks[0], boxes[1, 2:] = math.nan, boxes[1, :2]
    found, around = paste_masks_with_boxes(masks.to(DEVICE), boxes.to(DEVICE), (40, 60), 0.5, 30.0)
    assert not found[:2].any()
    assert not around[:2].any()


@pytest.mark.usefixtures("way")
def test_any_strides() -> None:
    masks, boxes = random_inputs(3, 30.0)
    wide = torch.zeros(6, M + 1, 2 * M)
    wide[::2, 1:, ::2] = masks
    assert_pasted(wide[::2, 1:, ::2], boxes.T.contiguous().T, (40, 60), 0.5, 30.0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("count", "size"), [(0, (6, 5)), (2, (0, 5))])
def test_nothing(count: int, size: tuple[int, int]) -> None:
    masks, boxes = random_inputs(count, 30.0)
    found, around = paste_masks_with_boxes(masks.to(DEVICE), boxes.to(DEVICE), size, 0.5, 30.0)
    assert found.shape == (count, *size)
    assert around.tolist() == [[0, 0, 0, 0]] * count


@interpreted
def test_boxes_of_more_regions_than_are_joined_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_kernels, "runs", lambda *_: True)
    monkeypatch.setattr(join_boxes_triton, "_JOINED", 2)
    assert_pasted(*random_inputs(2, 80.0), (70, 100), 0.5, 80.0)


@pytest.mark.parametrize("size", [(64, 96), (30, 200), (9, 7)])
@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_pasting_in_parts_is_pasting_into_the_whole_image(
    size: tuple[int, int], threshold: float
) -> None:
    """To the bit as detectron2 does it on a GPU."""
    from detectron2.layers.mask_ops import _do_paste_mask

    masks, boxes = random_inputs(40, 30.5)
    longest = float((boxes[:, 2:] - boxes[:, :2]).max())
    values, _ = _do_paste_mask(masks[:, None], boxes, *size, skip_empty=False)
    assert torch.equal(paste_parts(masks, boxes, size, threshold, longest), values >= threshold)


def test_pasting_is_bounded_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result doesn't depend on how many are pasted at a time."""
    masks, boxes = torch.rand(5, M, M), torch.tensor([[3.5, 4.0, 20.0, 30.0]]).expand(5, 4)
    expected = paste_parts(masks, boxes, (40, 50), 0.5, 26.0)
    monkeypatch.setattr(paste_masks, "_CHUNK_BYTES", 1)
    assert torch.equal(paste_parts(masks, boxes, (40, 50), 0.5, 26.0), expected)


@pytest.mark.parametrize(
    ("masks", "boxes", "threshold", "message"),
    [
        (torch.zeros(2, 3, 4), torch.zeros(2, 4), 0.5, r"\[N, m, m\]"),
        (torch.zeros(2, 3, 3), torch.zeros(1, 4), 0.5, r"boxes \[N, 4\]"),
        (torch.zeros(2, 3, 3).half(), torch.zeros(2, 4), 0.5, "torch.float16"),
        (torch.zeros(2, 3, 3), torch.zeros(2, 4), 0.0, "threshold positive"),
    ],
)
def test_what_is_refused(masks: Tensor, boxes: Tensor, threshold: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paste_masks_with_boxes(masks, boxes, (9, 9), threshold, 5.0)
