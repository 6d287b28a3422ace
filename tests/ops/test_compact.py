"""Resizing into bools or runs: the same pixels, and never all masks in memory."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from solo_family.ops import crops as crops_module
from solo_family.ops import mask_boxes, resize_masks_with_boxes, run_masks
from solo_family.ops.compact import TakenMasks, resize_compactly
from solo_family.ops.crops import Crop, bools_of_crops, runs_of_crops
from solo_family.ops.resize import resize_soft_masks
from solo_family.ops.resize_crops import resized_crops
from solo_family.ops.run_masks import RunMasks
from solo_family.ops.window import Window

SIZES = (64, 96), (60, 90), (125, 181)


class Asked:
    """Soft masks that note how many are asked for at a time."""

    def __init__(self, masks: Tensor) -> None:
        self.masks = masks
        self.most = 0

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, part: slice) -> Tensor:
        masks = self.masks[part]
        self.most = max(self.most, len(masks))
        return masks


def test_runs_have_the_pixels_of_bools(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = torch.rand(300, 16, 24, generator=torch.Generator().manual_seed(0))
    masks[7] = 0
    expected, expected_boxes = resize_masks_with_boxes(masks, *SIZES, 0.5)
    given = Asked(masks)
    dense, boxes = resize_compactly(given, *SIZES, 0.5)
    assert isinstance(dense, Tensor)
    assert torch.equal(dense, expected)
    assert torch.equal(boxes, expected_boxes)
    monkeypatch.setattr(run_masks, "DENSE_BYTES", 10**6)
    monkeypatch.setattr(run_masks, "_PART_BYTES", 10**6)
    given = Asked(masks)
    runs, boxes = resize_compactly(given, *SIZES, 0.5)
    assert isinstance(runs, RunMasks)
    assert torch.equal(runs.tensor, expected)
    assert torch.equal(boxes, expected_boxes)
    assert given.most == 10**6 // (125 * 181) < len(masks)


def discs(count: int, radius: float) -> Tensor:
    """Soft discs, some of which reach beyond the map, and one that is not there."""
    generator = torch.Generator().manual_seed(0)
    ys, xs = torch.meshgrid(torch.arange(16), torch.arange(24), indexing="ij")
    y, x = torch.rand(2, count, 1, 1, generator=generator) * 28 - 3
    masks = (radius**2 - (ys - y) ** 2 - (xs - x) ** 2).sigmoid()
    masks[0] = 0
    return masks


@pytest.mark.parametrize("radius", [0.5, 2.0, 9.0])
def test_masks_are_resized_where_they_are_as_in_the_whole_image(radius: float) -> None:
    """Also with large masks among small ones, and with what is not finite."""
    masks = torch.cat([discs(30, 2.0), discs(9, radius)])
    for sizes in (SIZES, ((64, 96), (33, 96), (20, 381)), ((32, 48), (32, 48), (16, 7))):
        full = F.interpolate(masks[None], size=sizes[0], mode="bilinear")
        cut = full[..., : sizes[1][0], : sizes[1][1]]
        expected = F.interpolate(cut, size=sizes[2], mode="bilinear")[0] > 0.5
        crops = list(resized_crops(masks, *sizes, 0.5, resize_soft_masks))
        found, boxes = bools_of_crops(crops, len(masks), sizes[2])
        assert (found != expected).sum() <= 1  # by rounding
        assert torch.equal(boxes, mask_boxes(found))
        assert torch.equal(runs_of_crops(crops, sizes[2]).tensor, found)
    spread = masks.clone()
    spread[3, 2, 2] = torch.inf
    (*_, crop) = list(resized_crops(spread[:4], *SIZES, 0.5, resize_soft_masks))
    assert crop.pixels.any()
    assert not crop.pixels.all()


def test_runs_of_crops_are_found_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    windows = [(0, 0, 9, 7), (3, 2, 3, 5), (5, 6, 9, 7), (2, 1, 6, 6)]
    crops = [Crop(Window(*w), generator.random((w[2] - w[0], w[3] - w[1])) < 0.6) for w in windows]
    expected, _ = bools_of_crops(crops, 4, (9, 7))
    for at_once in (1, 70, 2**22):
        monkeypatch.setattr(crops_module, "_PIXELS_AT_ONCE", at_once)
        assert torch.equal(runs_of_crops(crops, (9, 7)).tensor, expected)
    assert len(runs_of_crops([], (9, 7))) == 0


def test_masks_are_taken_when_they_are_asked_for() -> None:
    masks = torch.rand(9, 3, 4)
    rows = torch.tensor([7, 0, 3, 3, 8])
    taken = TakenMasks(masks, rows)
    assert len(taken) == 5
    assert torch.equal(taken[:], masks[rows])
    assert torch.equal(taken[1:3], masks[rows[1:3]])
    assert taken[:0].shape == (0, 3, 4)
