"""Masks as runs, beside the same masks as bools and pycocotools' own encoding."""

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_util

from solo_family.ops.run_masks import RunMasks
from solo_family.ops.run_pairs import pair_intersections
from solo_family.ops.runs import (
    box_of,
    boxes_and_areas,
    clip,
    clip_all,
    fill,
    joined,
    moved,
    runs_of,
    split,
    union,
)
from solo_family.ops.window import Window

SIZE = (37, 53)
WHOLE = Window(0, 0, *SIZE)


def random_masks(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return masks from empty to full, some with whole columns."""
    random = np.random.default_rng(seed)
    masks = random.random((count, *size)) < np.linspace(0, 1, count)[:, None, None]
    masks[count // 2 :, :, 3:7] = True
    masks[1, :, 5:6] = True
    return masks


def test_masks_of_a_window_are_in_the_image_s_pixels() -> None:
    window = Window(5, 11, 30, 50)
    masks = random_masks(9, window.size)
    for mask, runs in zip(masks, runs_of(torch.from_numpy(masks), window, SIZE[0])):
        expected = np.zeros(SIZE, bool)
        expected[5:30, 11:50] = mask
        assert np.array_equal(fill(runs, WHOLE, SIZE[0]), expected)
        assert runs.area == expected.sum()


def test_masks_of_a_window_are_moved_to_their_place() -> None:
    window = Window(5, 11, 30, 50)
    masks = torch.from_numpy(random_masks(9, window.size))
    own = runs_of(masks, Window(0, 0, *window.size), window.size[0])
    for one, expected in zip(own, runs_of(masks, window, SIZE[0])):
        placed = moved(one, window.size[0], window, SIZE[0])
        assert np.array_equal(np.stack(placed), np.stack(expected))


def test_operations_are_those_of_the_pixels() -> None:
    masks, others = random_masks(8, SIZE, 1), random_masks(8, SIZE, 2)[::-1].copy()
    window = Window(4, 2, 33, 9)
    inside = np.zeros(SIZE, bool)
    inside[4:33, 2:9] = True
    ours = runs_of(torch.from_numpy(masks), WHOLE, SIZE[0])
    theirs = runs_of(torch.from_numpy(others), WHOLE, SIZE[0])
    for a, b, mask, other in zip(ours, theirs, masks, others):
        assert np.array_equal(fill(union([a, b]), WHOLE, SIZE[0]), mask | other)
        part = clip(a, window, SIZE[0])
        assert np.array_equal(fill(part, WHOLE, SIZE[0]), mask & inside)
        assert np.array_equal(fill(a, window, SIZE[0]), mask[4:33, 2:9])
        rows, columns = np.nonzero(mask)
        if len(rows):
            box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
            assert box_of(a, SIZE[0]) == box


def test_many_masks_at_once_are_as_one_at_a_time() -> None:
    masks, others = random_masks(8, SIZE, 3), random_masks(6, SIZE, 4)
    masks[2] = others[5] = False
    ours, theirs = (runs_of(torch.from_numpy(some), WHOLE, SIZE[0]) for some in (masks, others))
    runs, ends = joined(ours)
    for one, expected in zip(split(runs, ends), ours, strict=True):
        assert np.array_equal(np.stack(one), np.stack(expected))
    boxes, areas = boxes_and_areas(runs, ends, SIZE[0])
    assert [tuple(box) for box in boxes] == [box_of(mask, SIZE[0]) for mask in ours]
    assert areas.tolist() == masks.sum((1, 2)).tolist()
    window = Window(4, 2, 33, 9)
    parts = split(*clip_all(runs, ends, window, SIZE[0]))
    for part, one in zip(parts, ours, strict=True):
        assert np.array_equal(np.stack(part), np.stack(clip(one, window, SIZE[0])))
    i, j = np.random.default_rng(0).integers(0, 6, (2, 40))
    shared = [(masks[a] & others[b]).sum() for a, b in zip(i, j)]
    others_runs = joined(theirs)
    assert pair_intersections((runs, ends), others_runs, (i, j)).tolist() == shared
    none, first = np.zeros(0, np.int64), np.array([0])
    assert pair_intersections((runs, ends), others_runs, (none, none)).shape == (0,)
    empty = joined(ours[2:3]), joined(theirs[5:])
    assert pair_intersections(*empty, (first, first)).tolist() == [0]
    assert boxes_and_areas(*joined([]), 9)[0].shape == (0, 4)


@pytest.mark.parametrize("size", [SIZE, (1, 9), (9, 1), (1, 1)])
def test_rle_is_pycocotools_own(size: tuple[int, int]) -> None:
    masks = np.concatenate([random_masks(9, size), np.ones((1, *size), bool)])
    packed = RunMasks(runs_of(torch.from_numpy(masks), Window(0, 0, *size), size[0]), size)
    for mask, rle in zip(masks, packed.rles(), strict=True):
        expected = mask_util.encode(np.asfortranarray(mask, np.uint8))
        assert rle == {"size": list(size), "counts": expected["counts"].decode()}
    assert RunMasks([], size).rles() == []
