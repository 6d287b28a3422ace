from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from solo_family.methods.grid.assigner import GridAssigner
from solo_family.methods.grid.targets import GridTargets

NUM_CLASSES = 5


class Objects(NamedTuple):
    boxes: Tensor
    classes: Tensor
    masks: Tensor
    padded_size: tuple[int, int]


class Level(NamedTuple):
    side: int
    scale_range: tuple[int, int]


def reference_cell(position: Tensor, padded: int, side: int) -> int:
    assert position.dtype == torch.float32
    return int(torch.div(position / padded, 1 / side, rounding_mode="trunc"))


def parts_of(batch: Sequence[Objects]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Returns the boxes, the classes and the masks of every image."""
    return (
        [image.boxes for image in batch],
        [image.classes for image in batch],
        [image.masks for image in batch],
    )


def reference_targets(
    objects: Objects, level: Level, sigma: float, num_classes: int, shared_cell: str = "both"
) -> tuple[list[int], list[tuple[int, int]]]:
    """Returns the class of every cell, and the (object, cell) pairs."""
    side, (low, high) = level
    labels = [num_classes] * (side * side)
    owner: dict[int, int] = {}
    pairs = []
    for index in range(len(objects.boxes)):
        x0, y0, x1, y1 = objects.boxes[index]
        width, height = x1 - x0, y1 - y0
        if not low <= (width * height).sqrt() <= high:
            continue
        pixels_y, pixels_x = np.nonzero(objects.masks[index].numpy())
        if len(pixels_y) == 0:
            continue
        center_y = torch.tensor(pixels_y.sum() / len(pixels_y), dtype=torch.float32)
        center_x = torch.tensor(pixels_x.sum() / len(pixels_x), dtype=torch.float32)
        half_height, half_width = 0.5 * sigma * height, 0.5 * sigma * width
        padded_height, padded_width = objects.padded_size
        row = reference_cell(center_y, padded_height, side)
        column = reference_cell(center_x, padded_width, side)
        top = max(reference_cell(center_y - half_height, padded_height, side), 0, row - 1)
        left = max(reference_cell(center_x - half_width, padded_width, side), 0, column - 1)
        down = min(reference_cell(center_y + half_height, padded_height, side), side - 1, row + 1)
        right = min(reference_cell(center_x + half_width, padded_width, side), side - 1, column + 1)
        for i in range(top, down + 1):
            for j in range(left, right + 1):
                labels[i * side + j] = int(objects.classes[index])
                owner[i * side + j] = index
                pairs.append((index, i * side + j))
    if shared_cell == "last":
        pairs = [(index, cell) for index, cell in pairs if owner[cell] == index]
    return labels, pairs


def make_objects(
    masks: list[tuple[int, int, int, int]],
    boxes: list[tuple[float, float, float, float]] | None = None,
    size: tuple[int, int] = (320, 320),
) -> Objects:
    """Rectangles x0 y0 x1 y1, of classes 0, 1, ..., with tight boxes by default."""
    pixels = torch.zeros(len(masks), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(pixels, masks):
        mask[y0:y1, x0:x1] = True
    tensor = torch.tensor(boxes or masks, dtype=torch.float32).reshape(-1, 4)
    return Objects(tensor, torch.arange(len(masks)), pixels, size)


def assign(
    objects: Objects, levels: list[Level], sigma: float = 0.2, shared_cell: str = "both"
) -> list[GridTargets]:
    assigner = GridAssigner(
        num_grids=[level.side for level in levels],
        scale_ranges=[level.scale_range for level in levels],
        sigma=sigma,
        num_classes=NUM_CLASSES,
        shared_cell=shared_cell,
    )
    return assigner(*objects)


@st.composite
def pictures(draw: st.DrawFn) -> Objects:
    """Images in a larger padded size, with up to 8 objects; boxes need not fit their masks."""
    padded_size = (
        draw(st.sampled_from([32, 64, 96, 160, 320])),
        draw(st.sampled_from([32, 64, 96, 320])),
    )
    height, width = (draw(st.integers(max(1, side - 40), side)) for side in padded_size)

    def interval(length: int) -> tuple[int, int]:
        one, other = draw(st.integers(0, length)), draw(st.integers(0, length))
        return min(one, other), max(one, other)

    masks: list[np.ndarray] = []
    boxes: list[Sequence[float]] = []
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["rectangle", "border", "pixel", "noise", "empty", "copy"]))
        if kind == "copy" and masks:
            masks.append(masks[-1].copy())
            boxes.append(boxes[-1])
            continue
        (y0, y1), (x0, x1) = interval(height), interval(width)
        if kind == "border":
            y0, x1 = 0, width
        elif kind == "pixel":
            y0, x0 = min(y0, height - 1), min(x0, width - 1)
            y1, x1 = y0 + 1, x0 + 1
        mask = np.zeros((height, width), bool)
        mask[y0:y1, x0:x1] = kind != "empty"
        if kind == "noise":
            mask &= np.random.default_rng(draw(st.integers(0, 99))).random(mask.shape) < 0.3
        masks.append(mask)
        if draw(st.booleans()):
            boxes.append([x0, y0, x1, y1])
        else:
            quarters = [sorted(draw(st.integers(0, 4 * side)) for _ in "01") for side in mask.shape]
            (top, bottom), (left, right) = quarters
            boxes.append([left / 4, top / 4, right / 4 + 0.1, bottom / 4])
    count = len(masks)
    classes = [draw(st.integers(0, NUM_CLASSES - 1)) for _ in range(count)]
    return Objects(
        torch.tensor(boxes, dtype=torch.float32).reshape(count, 4),
        torch.tensor(classes, dtype=torch.int64),
        torch.from_numpy(np.array(masks, dtype=bool).reshape(count, height, width)),
        padded_size,
    )


LEVELS = st.builds(
    Level,
    st.sampled_from([1, 2, 5, 12, 16, 24, 36, 40]),
    st.sampled_from([(1, 2048), (1, 32), (16, 64), (32, 96), (64, 128), (1000, 2000)]),
)
ANYWHERE = Level(40, (1, 2048))


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    objects=pictures(),
    levels=st.lists(LEVELS, min_size=1, max_size=3),
    sigma=st.sampled_from([0.2, 0.4, 1.0, 0.0]),
    shared_cell=st.sampled_from(["both", "last"]),
)
@example(make_objects([]), [ANYWHERE], 0.2, "both")
@example(make_objects([(10, 10, 42, 42)]), [Level(5, (1, 32)), Level(9, (32, 64))], 0.2, "both")
@example(make_objects([(40, 40, 41, 41), (32, 32, 49, 49)]), [ANYWHERE], 0.2, "last")
def test_matches_the_brute_force(
    objects: Objects, levels: list[Level], sigma: float, shared_cell: str
) -> None:
    found = assign(objects, levels, sigma, shared_cell)
    assert len(found) == len(levels)
    for targets, level in zip(found, levels):
        labels, pairs = reference_targets(objects, level, sigma, NUM_CLASSES, shared_cell)
        assert targets.labels.tolist() == labels
        assert list(zip(targets.objects.tolist(), targets.cells.tolist())) == pairs
        for tensor in (targets.labels, targets.objects, targets.cells):
            assert tensor.dtype == torch.int64
            assert tensor.ndim == 1


@pytest.mark.parametrize("side", [12, 16, 24, 36, 40])
@pytest.mark.parametrize("padded", [96, 320, 800, 1344])
def test_every_half_pixel_centre_has_the_published_cell(side: int, padded: int) -> None:
    """Rows of 1 and 2 pixels, at every place of one column."""
    masks = torch.zeros(2 * padded - 1, padded, 1, dtype=torch.bool)
    for first in range(padded):
        masks[2 * first, first] = True
        if first < padded - 1:
            masks[2 * first + 1, first : first + 2] = True
    count = len(masks)
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(count, 4)
    objects = Objects(boxes, torch.zeros(count, dtype=torch.int64), masks, (padded, 32))
    (targets,) = assign(objects, [Level(side, (1, 1))], sigma=0.0)
    centers = [torch.tensor(half / 2, dtype=torch.float32) for half in range(count)]
    expected = [reference_cell(center, padded, side) * side for center in centers]
    assert targets.objects.tolist() == list(range(count))
    assert targets.cells.tolist() == expected


def test_a_centre_on_a_cell_border_belongs_to_the_later_cell() -> None:
    # 40 / 320 / (1 / 40) is 5 in float32; floor division of the same numbers gives 4.
    (targets,) = assign(make_objects([(40, 40, 41, 41)]), [ANYWHERE])
    assert targets.cells.tolist() == [4 * 40 + 4, 4 * 40 + 5, 5 * 40 + 4, 5 * 40 + 5]
    (targets,) = assign(make_objects([(40, 40, 41, 41)]), [ANYWHERE], sigma=0.0)
    assert targets.cells.tolist() == [5 * 40 + 5]


def test_an_object_belongs_to_two_overlapping_levels() -> None:
    levels = [Level(40, (1, 96)), Level(36, (48, 192)), Level(24, (96, 384))]
    first, second, third = assign(make_objects([(100, 100, 160, 160)]), levels)
    # The centre of mass is at 129.5, the window from 123.5 to 135.5.
    assert first.cells.tolist() == [15 * 40 + 15, 15 * 40 + 16, 16 * 40 + 15, 16 * 40 + 16]
    assert sorted(set((second.cells // 36).tolist())) == [13, 14, 15]
    assert set(first.objects.tolist()) == set(second.objects.tolist()) == {0}
    assert third.objects.tolist() == []
    assert third.labels.tolist() == [NUM_CLASSES] * 24 * 24


@pytest.mark.parametrize(("size", "found"), [(31, 0), (32, 1), (64, 1), (65, 0)])
def test_scale_ranges_include_both_ends(size: int, found: int) -> None:
    (targets,) = assign(make_objects([(0, 0, size, size)]), [Level(1, (32, 64))])
    assert len(targets.objects) == found


def test_the_scale_is_of_the_box_not_of_the_mask() -> None:
    objects = make_objects([(100, 100, 110, 110)], [(0.0, 50.0, 200.0, 100.0)])
    (targets,) = assign(objects, [Level(4, (100, 100))], sigma=0.0)
    assert targets.cells.tolist() == [1 * 4 + 1]


def test_an_object_outside_every_range_is_in_no_level() -> None:
    levels = [Level(40, (1, 96)), Level(36, (192, 384))]
    for targets in assign(make_objects([(0, 0, 150, 150)]), levels):
        assert (targets.labels == NUM_CLASSES).all()
        assert len(targets.objects) == len(targets.cells) == 0


def test_a_mask_without_pixels_is_skipped() -> None:
    objects = make_objects(
        [(50, 50, 60, 60), (9, 9, 9, 9)], [(50.0, 50.0, 60.0, 60.0), (50.0, 50.0, 60.0, 60.0)]
    )
    (targets,) = assign(objects, [ANYWHERE])
    assert set(targets.objects.tolist()) == {0}
    assert set(targets.labels.tolist()) == {0, NUM_CLASSES}


def test_at_most_the_eight_neighbours_of_the_centre_cell() -> None:
    (targets,) = assign(make_objects([(0, 0, 320, 320)]), [ANYWHERE], sigma=1.0)
    rows, columns = targets.cells // 40, targets.cells % 40
    # The centre of mass is at 159.5, in cell 19.
    assert sorted(set(rows.tolist())) == sorted(set(columns.tolist())) == [18, 19, 20]
    assert len(targets.cells) == 9


def test_a_window_is_cut_at_the_grid() -> None:
    corners = [(0, 0, 2, 2), (318, 318, 320, 320)]
    boxes = [(0.0, 0.0, 200.0, 200.0), (120.0, 120.0, 320.0, 320.0)]
    (targets,) = assign(make_objects(corners, boxes), [ANYWHERE])
    assert targets.objects.tolist() == [0] * 4 + [1] * 4
    last = 38 * 40 + 38
    assert targets.cells.tolist() == [0, 1, 40, 41, last, last + 1, last + 40, last + 41]


def test_the_later_object_gives_the_category_of_a_shared_cell() -> None:
    objects = make_objects([(100, 100, 120, 120), (96, 96, 124, 124)])
    (both,) = assign(objects, [Level(4, (1, 2048))], sigma=0.0)
    assert both.cells.tolist() == [5, 5]
    assert both.objects.tolist() == [0, 1]
    assert both.labels[5] == 1
    (last,) = assign(objects, [Level(4, (1, 2048))], sigma=0.0, shared_cell="last")
    assert last.cells.tolist() == [5]
    assert last.objects.tolist() == [1]
    assert torch.equal(last.labels, both.labels)


def test_the_grid_divides_the_padded_size() -> None:
    objects = make_objects([(40, 40, 50, 50)], size=(64, 64))
    (alone,) = assign(objects, [Level(4, (1, 64))], sigma=0.0)
    (padded,) = assign(objects._replace(padded_size=(64, 128)), [Level(4, (1, 64))], sigma=0.0)
    assert alone.cells.tolist() == [2 * 4 + 2]
    assert padded.cells.tolist() == [2 * 4 + 1]


@pytest.mark.parametrize("shared_cell", ["both", "last"])
def test_a_batch_is_assigned_image_by_image(shared_cell: str) -> None:
    """Pairs of every image, level after level, and labels, as of each image alone."""
    torch.manual_seed(0)
    batch = [
        make_objects([(0, 0, 40, 60), (30, 20, 200, 150), (5, 8, 50, 62)], size=(160, 320)),
        make_objects([], size=(100, 90)),
        make_objects([(10, 10, 70, 80), (12, 9, 75, 82)], size=(96, 200)),
    ]
    levels = [Level(12, (1, 96)), Level(8, (48, 192)), Level(3, (96, 2048))]
    assigner = GridAssigner(
        num_grids=[level.side for level in levels],
        scale_ranges=[level.scale_range for level in levels],
        sigma=0.2,
        num_classes=NUM_CLASSES,
        shared_cell=shared_cell,
    )
    padded = (160, 320)
    together = assigner.assign(*parts_of(batch), padded)
    starts = [0, 12**2, 12**2 + 8**2]
    first_object, seen = 0, 0
    for image, pairs, labels in zip(batch, together.pairs(), together.labels):
        alone = [
            reference_targets(
                image._replace(padded_size=padded), level, 0.2, NUM_CLASSES, shared_cell
            )
            for level in levels
        ]
        assert labels.tolist() == [label for level_labels, _ in alone for label in level_labels]
        assert pairs.per_level == [len(level_pairs) for _, level_pairs in alone]
        found = list(zip(pairs.objects.tolist(), pairs.cells.tolist()))
        assert found == [
            (first_object + index, start + cell)
            for start, (_, level_pairs) in zip(starts, alone)
            for index, cell in level_pairs
        ]
        first_object += len(image.classes)
        seen += len(found)
    assert seen > 10


def test_no_objects_in_a_batch_make_no_pairs() -> None:
    assigner = GridAssigner(
        num_grids=[4, 2], scale_ranges=[(1, 96), (48, 384)], sigma=0.2, num_classes=NUM_CLASSES
    )
    nothing = [make_objects([])] * 2
    targets = assigner.assign(*parts_of(nothing), (320, 320))
    assert (targets.labels == NUM_CLASSES).all()
    assert targets.labels.shape == (2, 20)
    for pairs in targets.pairs():
        assert len(pairs.objects) == len(pairs.cells) == 0
        assert pairs.per_level == [0, 0]
