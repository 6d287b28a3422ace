import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from solo_family.ops import masks as module
from solo_family.ops.masks import (
    _chunk_pixels,
    _padded,
    later_intersections,
    mask_boxes,
    mask_intersections,
    mask_iou,
)


@st.composite
def mask_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    first, second = (
        draw(hnp.arrays(bool, (draw(st.integers(0, 6)), height, width))) for _ in range(2)
    )
    return first, second


def reference_intersections(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    counts = np.zeros((len(a), len(b)), dtype=np.int64)
    for i, mask in enumerate(a):
        for j, other in enumerate(b):
            counts[i, j] = sum(p and q for p, q in zip(mask.flat, other.flat))
    return counts


def reference_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    iou = np.zeros((len(a), len(b)), dtype=np.float32)
    for i, mask in enumerate(a):
        for j, other in enumerate(b):
            union = (mask | other).sum()
            iou[i, j] = (mask & other).sum() / union if union else 0
    return iou


@settings(deadline=None, max_examples=100, derandomize=True)
@given(mask_pairs())
def test_matches_the_reference(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    intersections = mask_intersections(torch.from_numpy(a), torch.from_numpy(b))
    iou = mask_iou(torch.from_numpy(a), torch.from_numpy(b))
    assert intersections.dtype == torch.int64
    assert iou.dtype == torch.float32
    np.testing.assert_array_equal(intersections.numpy(), reference_intersections(a, b))
    np.testing.assert_array_equal(iou.numpy(), reference_iou(a, b))


@settings(deadline=None, max_examples=50, derandomize=True)
@given(mask_pairs())
def test_one_set_of_masks_is_compared_with_itself(pair: tuple[np.ndarray, np.ndarray]) -> None:
    masks = torch.from_numpy(pair[0])
    assert torch.equal(mask_intersections(masks), mask_intersections(masks, masks))
    assert torch.equal(mask_iou(masks), mask_iou(masks, masks))


def test_chunks_add_up() -> None:
    masks = torch.rand(5, 1031, 1033, generator=torch.Generator().manual_seed(0)) > 0.5
    assert masks[0].numel() > _chunk_pixels(5)
    expected = [[int((mask & other).sum()) for other in masks[:2]] for mask in masks[2:]]
    assert mask_intersections(masks[2:], masks[:2]).tolist() == expected


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_each_mask_with_those_after_it(
    monkeypatch: pytest.MonkeyPatch, count: int, int8: bool
) -> None:
    """In strips of rows and chunks of pixels, whatever the CPU has."""
    monkeypatch.setattr(module, "_MAX_CHUNK_BYTES", 4 * 300 * 100)  # 100 pixels of 300 masks
    monkeypatch.setattr(module, "_has_int8_products", lambda *_: int8)
    masks = torch.rand(count, 11, 23, generator=torch.Generator().manual_seed(0)) > 0.5
    flat = masks.flatten(1).numpy().astype(np.int64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = later_intersections(masks)
    assert found.dtype == torch.int32
    np.testing.assert_array_equal(found.triu().numpy(), np.triu(flat @ flat.T))


@pytest.mark.parametrize("rows", [0, 1, 8, 500, 100_000])
def test_chunks_are_bounded(rows: int) -> None:
    pixels = _chunk_pixels(rows)
    assert 1 <= pixels <= 2**20
    assert pixels * rows * 4 <= 32 * 2**20


def test_empty_union_has_no_overlap() -> None:
    masks = torch.zeros(2, 3, 4, dtype=torch.bool)
    assert torch.equal(mask_iou(masks), torch.zeros(2, 2))


def test_no_masks() -> None:
    none, some = torch.zeros(0, 3, 4, dtype=torch.bool), torch.ones(2, 3, 4, dtype=torch.bool)
    assert mask_intersections(none).shape == mask_iou(none).shape == (0, 0)
    assert mask_iou(none, some).shape == (0, 2)
    assert mask_iou(some, none).shape == (2, 0)
    assert torch.equal(mask_intersections(some[:, :0]), torch.zeros(2, 2, dtype=torch.int64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("side", [47, 259])
def test_counts_are_exact_under_autocast(side: int, dtype: torch.dtype) -> None:
    # 47 * 47 - 1 pixels are beyond float16's exact integers, 259 * 259 - 1 beyond its range.
    masks = torch.ones(2, side, side, dtype=torch.bool)
    masks[0, 0, 0] = False
    area = side * side
    with torch.autocast("cpu", dtype=dtype):
        intersections, iou = mask_intersections(masks), mask_iou(masks)
    assert intersections.tolist() == [[area - 1, area - 1], [area - 1, area]]
    assert iou.dtype == torch.float32
    assert iou[0, 1].item() == np.float32(area - 1) / np.float32(area)


def test_counts_are_exact_beyond_float32() -> None:
    # Two more pixels than 2**24, the last integer up to which float32 has them all.
    masks = torch.ones(1, 2, 2**23 + 1, dtype=torch.bool)
    masks[0, 0, 0] = False
    assert mask_intersections(masks).item() == 2**24 + 1


def test_rejects_masks_that_are_not_bool() -> None:
    with pytest.raises(ValueError, match=r"must be bool, but are torch\.float32"):
        mask_iou(torch.rand(2, 3, 4))


def test_rejects_masks_of_two_sizes() -> None:
    a, b = torch.ones(2, 3, 4, dtype=torch.bool), torch.ones(2, 4, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(4, 3\)"):
        mask_iou(a, b)


@pytest.mark.parametrize("shape", [(16, 24), (17, 24), (16, 25), (1, 1)])
def test_products_of_bytes_on_a_gpu_get_multiples_of_eight(shape: tuple[int, int]) -> None:
    for pixels in (torch.ones(shape, dtype=torch.bool), torch.ones(17, 26).bool()[1:, 1:]):
        pixels = pixels.contiguous()
        padded = _padded(pixels)
        assert padded.shape[0] % 8 == padded.shape[1] % 8 == padded.data_ptr() % 16 == 0
        assert torch.equal(padded[: pixels.shape[0], : pixels.shape[1]], pixels)
        assert padded.sum() == pixels.numel()


def reference_boxes(masks: np.ndarray) -> np.ndarray:
    boxes = np.zeros((len(masks), 4), dtype=np.float32)
    for n, mask in enumerate(masks):
        rows, columns = np.nonzero(mask)
        if len(rows):
            boxes[n] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return boxes


@settings(deadline=None, max_examples=100, derandomize=True)
@given(hnp.arrays(bool, st.tuples(st.integers(0, 4), st.integers(1, 6), st.integers(1, 6))))
def test_boxes_match_the_references(masks: np.ndarray) -> None:
    boxes = mask_boxes(torch.from_numpy(masks))
    assert boxes.dtype == torch.float32
    np.testing.assert_array_equal(boxes.numpy(), reference_boxes(masks))
    assert torch.equal(boxes, BitMasks(torch.from_numpy(masks)).get_bounding_boxes().tensor)


def test_boxes_of_one_pixel_and_of_two_corners() -> None:
    masks = torch.zeros(3, 5, 7, dtype=torch.bool)
    masks[0, 3, 2] = True
    masks[1, 0, 0] = masks[1, 4, 6] = True
    assert mask_boxes(masks).tolist() == [[2, 3, 3, 4], [0, 0, 7, 5], [0, 0, 0, 0]]


@pytest.mark.parametrize("size", [(5, 7), (0, 0)])
def test_no_boxes(size: tuple[int, int]) -> None:
    boxes = mask_boxes(torch.zeros(0, *size, dtype=torch.bool))
    assert boxes.shape == (0, 4)
    assert boxes.dtype == torch.float32
