"""Masks as runs in the place of a tensor of bools: whatever is done with one is done with them."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from solo_family.ops import mask_iou, run_masks
from solo_family.ops.run_masks import (
    RunMasks,
    are_dense,
    are_empty,
    collect_runs,
    iou_of_any,
    mask_parts,
    pixels_of,
    whole_runs,
)

from .test_runs import SIZE, random_masks


def both(count: int = 6, seed: int = 0) -> tuple[torch.Tensor, RunMasks]:
    masks = torch.from_numpy(random_masks(count, SIZE, seed))
    return masks, RunMasks(whole_runs(masks), SIZE)


def test_they_are_indexed_as_a_tensor() -> None:
    masks, packed = both()
    assert (packed.shape, packed.dtype, packed.device) == (masks.shape, masks.dtype, masks.device)
    assert torch.equal(packed.to("cpu").cpu().tensor, masks)
    chosen = torch.tensor([True, False, True, True, False, False])
    for index in (chosen, torch.tensor([4, 0]), slice(1, 4), torch.zeros(6, dtype=torch.bool)):
        assert isinstance(packed[index], RunMasks)
        assert torch.equal(packed[index].tensor, masks[index])
    for place in (2, -1, np.int64(3)):
        assert torch.equal(packed[place], masks[int(place)])
    assert torch.equal(packed[torch.tensor(4)], masks[4])
    others: list[Any] = [None, ..., (..., 3), (1, 5), (slice(2), None), (slice(2), 7, slice(3))]
    for other in others:
        assert torch.equal(packed[other], masks[other])
    with pytest.raises(IndexError):
        packed[6]
    for mask, expected in zip(packed, masks, strict=True):
        assert torch.equal(mask.detach().cpu(), expected)  # as SAHI goes through them


@pytest.mark.parametrize("first", [slice(None), slice(1, 3), -1, torch.tensor([5, 0])])
def test_parts_of_the_image_are_cut_out_as_of_a_tensor(first: Any) -> None:
    masks, packed = both()
    for rest in ((slice(3, 20), slice(10, None)), (slice(None), slice(-7, -2)), (slice(9, 4),)):
        assert torch.equal(packed[(first, *rest)], masks[(first, *rest)])
    assert torch.equal(packed[first, ::3, 1:40:2], masks[first, ::3, 1:40:2])


def test_what_they_lack_names_what_has_it() -> None:
    _, packed = both()
    with pytest.raises(AttributeError, match=r"have no 'sum'. `.tensor` makes bools \[N, H, W\]"):
        packed.sum((1, 2))
    for copied in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert torch.equal(copied.tensor, packed.tensor)


def test_numpy_makes_an_array_of_them() -> None:
    masks, packed = both()
    for array in (np.asarray(packed), np.array(packed), packed.numpy()):
        assert array.dtype == bool
        assert np.array_equal(array, masks.numpy())
    assert np.asarray(packed, np.uint8).dtype == np.uint8
    assert torch.equal(pixels_of(packed), pixels_of(masks))


def test_instances_of_them_are_chosen_and_joined() -> None:
    masks, packed = both()
    scores: Any = torch.linspace(0.9, 0.1, len(masks))
    found = Instances(SIZE, pred_masks=packed, pred_boxes=Boxes(packed.boxes), scores=scores)
    joined = Instances.cat([found[scores > 0.5], found[4].to("cpu")])
    assert torch.equal(joined.pred_masks.tensor, masks[[0, 1, 2, 4]])


def test_iou_and_emptiness_are_those_of_bools() -> None:
    masks, packed = both(7, seed=1)
    others, their_runs = both(5, seed=2)
    masks[2], packed.masks[2] = False, whole_runs(torch.zeros(1, *SIZE, dtype=torch.bool))[0]
    expected = mask_iou(masks, others)
    for ours, theirs in ((packed, their_runs), (masks, their_runs), (packed, others)):
        torch.testing.assert_close(iou_of_any(ours, theirs), expected, rtol=0, atol=1e-6)
    assert are_empty(packed).tolist() == are_empty(masks).tolist()
    assert are_empty(packed)[2]
    assert packed.areas.tolist() == masks.flatten(1).sum(1).tolist()


def test_bools_are_no_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = SIZE[0] * SIZE[1]
    monkeypatch.setattr(run_masks, "DENSE_BYTES", 3 * pixels)
    assert [are_dense(count, SIZE) for count in (0, 3, 4)] == [True, True, False]
    assert are_dense(4, SIZE, torch.device("cuda"))  # runs would have to be copied back


def test_runs_are_collected_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_masks, "_PART_BYTES", 4 * SIZE[0] * SIZE[1])
    masks, _ = both(10)
    parts = mask_parts(10, SIZE, 99)
    assert [len(masks[part]) for part in parts] == [4, 4, 2]
    assert [len(masks[part]) for part in mask_parts(10, SIZE, 3)] == [3, 3, 3, 1]
    assert mask_parts(2, (10**6, 10**6), 99) == [slice(0, 1), slice(1, 2)]
    assert torch.equal(collect_runs(lambda part: masks[part], parts, SIZE).tensor, masks)
