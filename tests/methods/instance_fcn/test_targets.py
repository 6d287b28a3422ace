"""Which windows are positive and negative, how they are drawn, and what their masks should be."""

import math
from typing import Any

import pytest
import torch

from solo_family.methods.instance_fcn.targets import WindowSampler, window_masks

MAP, STRIDE = (40, 50), 8


def box(center_x: float, center_y: float, width: float, height: float) -> list[float]:
    half_width, half_height = width / 2, height / 2
    return [
        *(center_x - half_width, center_y - half_height),
        *(center_x + half_width, center_y + half_height),
    ]


def sampler(**options: Any) -> WindowSampler:
    return WindowSampler(window_size=21, **options)


def assigned_by_loops(boxes: list[list[float]]) -> tuple[list[list[int]], list[list[bool]]]:
    """DeepMask's rule at 168 pixels: objects of 96, shifts of 12 and 24, 2^1/4 and 2^1."""
    owner = [[-1] * MAP[1] for _ in range(MAP[0])]
    negative = [[True] * MAP[1] for _ in range(MAP[0])]
    for row in range(MAP[0]):
        for column in range(MAP[1]):
            nearest = math.inf
            for index, (x0, y0, x1, y1) in enumerate(boxes):
                shift = max(abs(8 * column + 4 - (x0 + x1) / 2), abs(8 * row + 4 - (y0 + y1) / 2))
                factor = max(x1 - x0, y1 - y0) / 96
                fits = 2**-0.25 <= factor <= 2**0.25
                if shift <= 12 and fits and shift < nearest:
                    nearest, owner[row][column] = shift, index
                if shift < 24 and 0.5 < factor < 2:
                    negative[row][column] = False
    return owner, negative


BOXES = [
    box(100, 100, 96, 60),
    box(116, 100, 50, 90),  # overlaps the first one's windows
    box(302.5, 161, 80, 40),  # just too small
    box(302, 60, 113, 20),
    box(60, 250, 40, 48),  # half the size: negative
    box(200, 250, 191, 100),  # neither
    box(0, 0, 100, 100),  # at the corner
]


def test_assignment_equals_loops() -> None:
    owner, negative = sampler().assign(torch.tensor(BOXES), MAP, STRIDE)
    expected_owner, expected_negative = assigned_by_loops(BOXES)
    assert owner.tolist() == expected_owner
    assert negative.tolist() == expected_negative
    assert set(owner.unique().tolist()) == {-1, 0, 1, 3, 6}


def test_tolerances_include_their_ends() -> None:
    """A shift of 12 pixels is positive, of 24 negative, for an object centred on a cell."""
    owner, negative = sampler().assign(torch.tensor([box(164, 164, 96, 96)]), MAP, STRIDE)
    assert owner[20].tolist().count(0) == 3  # shifts of 0 and 8
    owner, negative = sampler().assign(torch.tensor([box(168, 164, 96, 96)]), MAP, STRIDE)
    assert (owner[20] == 0).nonzero().flatten().tolist() == [19, 20, 21, 22]  # 12, 4, 4, 12
    assert (~negative[20]).nonzero().flatten().tolist() == [18, 19, 20, 21, 22, 23]
    owner, negative = sampler().assign(torch.tensor([box(164, 164, 192, 96)]), MAP, STRIDE)
    assert negative.all()


def test_the_rule_scales_with_the_window() -> None:
    small = WindowSampler(window_size=7).assign(torch.tensor([box(84, 84, 32, 32)]), (20, 20), 8)
    assert (small[0] == 0).nonzero().tolist() == [[10, 10]]  # a shift of 4
    assert (~small[1]).sum() == 1  # of 8


def test_an_even_windows_centre_is_its_middle_cells_corner() -> None:
    even = WindowSampler(window_size=20)
    owner, _ = even.assign(torch.tensor([box(160, 80, 91, 91)]), MAP, STRIDE)
    positive = (owner == 0).nonzero()
    assert positive.float().mean(0).tolist() == [10, 20]


def test_objects_without_pixels_are_nobodys() -> None:
    owner, negative = sampler().assign(torch.zeros((2, 4)), MAP, STRIDE)
    assert (owner == -1).all()
    assert negative.all()


def test_equally_near_objects_leave_the_window_to_the_first() -> None:
    boxes = torch.tensor([box(164, 164, 96, 96), box(164, 164, 90, 96)])
    owner, _ = sampler().assign(boxes, MAP, STRIDE)
    assert owner.unique().tolist() == [-1, 0]


@pytest.mark.parametrize(
    ("short", "positives", "negatives"),
    [("negatives", 9, 55), ("repeat", 32, 32), ("fewer", 9, 9)],
)
def test_too_few_positives(short: str, positives: int, negatives: int) -> None:
    boxes = torch.tensor([box(4, 4, 10, 10), box(164, 164, 96, 96)])
    draw = sampler(num_windows=64, short_of_positives=short)
    windows = draw(boxes, MAP, STRIDE)
    assert windows.objects.tolist() == [1] * positives
    assert len(windows.centers) == positives + negatives
    owner, negative = draw.assign(boxes, MAP, STRIDE)
    rows, columns = windows.centers.unbind(1)
    assert (owner[rows, columns] == 1)[:positives].all()
    assert negative[rows, columns][positives:].all()
    assert len({*map(tuple, windows.centers[positives:].tolist())}) == negatives


@pytest.mark.parametrize("short", ["negatives", "repeat", "fewer"])
@pytest.mark.parametrize("boxes", [torch.zeros((0, 4)), torch.tensor([box(100, 100, 20, 20)])])
def test_no_positives(short: str, boxes: torch.Tensor) -> None:
    windows = sampler(num_windows=64, short_of_positives=short)(boxes, MAP, STRIDE)
    assert len(windows.objects) == 0
    assert len(windows.centers) == 64


def test_at_most_the_share_is_positive() -> None:
    boxes = torch.tensor([box(100, 100, 96, 96)])
    windows = sampler(num_windows=8)(boxes, MAP, STRIDE)
    assert (len(windows.objects), len(windows.centers)) == (4, 8)


def test_sampling_is_random() -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([box(164, 164, 96, 96)])
    first, second = (sampler(num_windows=8)(boxes, MAP, STRIDE).centers for _ in range(2))
    assert not torch.equal(first, second)


def test_fewer_windows_than_asked_for() -> None:
    windows = sampler()(torch.zeros((0, 4)), (3, 4), STRIDE)
    assert len(windows.centers) == 12


def test_window_masks_are_cut_out() -> None:
    masks = torch.rand((2, 6, 9), generator=torch.Generator().manual_seed(0)) > 0.5
    objects, centers = torch.tensor([1, 0, -1]), torch.tensor([[0, 0], [3, 4], [5, 8]])
    cut = window_masks(masks, objects, centers, 5)
    padded = torch.nn.functional.pad(masks, (2, 2, 2, 2))
    for index in range(2):
        row, column = centers[index].tolist()
        expected = padded[objects[index], row : row + 5, column : column + 5]
        assert torch.equal(cut[index], expected)
    assert not cut[2].any()


def test_window_masks_without_objects() -> None:
    none = torch.zeros((0, 6, 9), dtype=torch.bool)
    cut = window_masks(none, torch.tensor([-1]), torch.tensor([[2, 2]]), 5)
    assert cut.shape == (1, 5, 5)
    assert not cut.any()
