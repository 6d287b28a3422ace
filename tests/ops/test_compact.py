"""Resizing into bools or runs: the same pixels, and never all masks in memory."""

import pytest
import torch
from torch import Tensor

from solo_family.ops import resize_masks_with_boxes, run_masks
from solo_family.ops.compact import TakenMasks, resize_compactly
from solo_family.ops.run_masks import RunMasks

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


def test_masks_are_taken_when_they_are_asked_for() -> None:
    masks = torch.rand(9, 3, 4)
    rows = torch.tensor([7, 0, 3, 3, 8])
    taken = TakenMasks(masks, rows)
    assert len(taken) == 5
    assert torch.equal(taken[:], masks[rows])
    assert torch.equal(taken[1:3], masks[rows[1:3]])
    assert taken[:0].shape == (0, 3, 4)
