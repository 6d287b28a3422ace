"""Polygons of masks: exact, simplified, and joined to one line."""

import tracemalloc

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_util

from solo_family.saving import outlines
from solo_family.saving.outlines import (
    LEAST_IOU,
    Part,
    join,
    outline,
    rasterise,
    signed_area,
    trace,
)


def encode(mask: np.ndarray) -> dict:
    return mask_util.encode(np.asfortranarray(mask, np.uint8))


def inside(parts: list[Part], size: tuple[int, int]) -> np.ndarray:
    """Count for each pixel's centre, by even-odd crossings, the rings around it; slow."""
    ys, xs = np.mgrid[: size[0], : size[1]] + 0.5
    crossings = np.zeros(size, int)
    for part in parts:
        for ring in part.rings:
            for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0)):
                between = (ys < y0) != (ys < y1)
                crossings += between & (xs < x0 + (ys - y0) * (x1 - x0) / ((y1 - y0) or 1))
    return crossings


def holed_blobs(seed: int, size: tuple[int, int] = (180, 240)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=size)
    return cv2.GaussianBlur(noise, (0, 0), 9) > 0.01


@pytest.mark.parametrize("seed", range(12))
def test_exact_polygons_cover_the_pixels_of_any_mask(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Noise has all cases of diagonal neighbours, holes in holes and single pixels.
    mask = np.random.default_rng(seed).random((13, 17)) < (0.3, 0.5, 0.7)[seed % 3]
    parts = trace(mask)
    np.testing.assert_array_equal(inside(parts, mask.shape) % 2 == 1, mask)
    np.testing.assert_array_equal(
        mask_util.decode(rasterise([join([part]) for part in parts], [13, 17])), mask
    )
    count, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    assert len(parts) == count - 1
    for part in parts:
        assert signed_area(part.outer) > 0
        assert all(signed_area(hole) < 0 for hole in part.holes)
        for ring in part.rings:
            assert len(np.unique(ring, axis=0)) == len(ring)  # it does not touch itself
    single = mask_util.frPyObjects([join(parts).ravel().tolist()], 13, 17)[0]
    np.testing.assert_array_equal(mask_util.decode(single), mask)
    monkeypatch.setattr(outlines, "_MOST_SEARCHED", 0)
    single = mask_util.frPyObjects([join(parts).ravel().tolist()], 13, 17)[0]
    np.testing.assert_array_equal(mask_util.decode(single), mask)


@pytest.mark.parametrize("seed", range(4))
def test_by_default_the_overlap_stays_high_with_far_fewer_points(seed: int) -> None:
    mask = holed_blobs(seed)
    parts = outline(encode(mask))
    iou = mask_util.iou(
        [rasterise([join([part]) for part in parts], [180, 240])], [encode(mask)], [0]
    )[0, 0]
    assert iou >= LEAST_IOU
    exact = sum(len(ring) for part in trace(mask) for ring in part.rings)
    assert sum(len(ring) for part in parts for ring in part.rings) < 0.5 * exact


def test_a_tolerance_is_a_largest_distance_and_nothing_collapses() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:35, 5:35] = True
    mask[4, 20] = True  # a bump of one pixel
    mask[0, 0] = True
    dot, square = outline(encode(mask), 3.0)
    assert [len(dot.outer), len(square.outer)] == [4, 4]
    assert len(outline(encode(mask), 0)[1].outer) == 8
    assert outline(encode(np.zeros((4, 4), bool))) == []


def joined_slowly(rings: list[np.ndarray]) -> np.ndarray:
    """Join rings at the first of their closest points, by all distances."""
    line = rings[0]
    for ring in rings[1:]:
        distances = np.array([[np.abs(one - other).sum() for other in ring] for one in line])
        here, there = divmod(int(distances.argmin()), len(ring))
        passed = [*ring[there:], *ring[:there], ring[there]]
        line = np.array([*line[: here + 1], *passed, *line[here:]])
    return line


@pytest.mark.parametrize("most", [1, 40, 2**20])
def test_rings_are_joined_at_their_closest_points(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlines, "_MOST_DISTANCES", most)
    for seed in range(4):
        parts = trace(np.random.default_rng(seed).random((9, 12)) < 0.4)
        rings = [ring for part in parts for ring in part.rings]
        np.testing.assert_array_equal(join(parts), joined_slowly(rings))


def test_joining_long_rings_takes_little_memory() -> None:
    angles = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 1000
    tracemalloc.start()
    try:
        joined = join([Part(ring), Part(ring + np.array([2500.0, 0]))])
        assert tracemalloc.get_traced_memory()[1] < 64e6  # all distances would take 144 MB twice
    finally:
        tracemalloc.stop()
    assert len(joined) == 2 * 3000 + 2
