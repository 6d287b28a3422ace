"""Pasting one image's objects on another, against a loop over pixels."""

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances

from solo_family.data.loading.paste import paste


def mapped(seed: int, objects: int, size: tuple[int, int] = (12, 16), **more: Any) -> dict:
    """A mapped image of noise with rectangles, whose boxes are wider than the masks."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((objects, *size), bool)
    for mask in masks:
        top, left = rng.integers(0, size[0] - 6), rng.integers(0, size[1] - 6)
        mask[top : top + 6, left : left + 6] = True
    instances = Instances(size)
    instances.gt_classes = torch.from_numpy(rng.integers(0, 9, objects))
    instances.gt_boxes = Boxes(torch.full((objects, 4), 0.5))
    if objects:  # detectron2's mapper gives no masks where there are no objects
        instances.gt_masks = BitMasks(torch.from_numpy(masks))
    pixels = rng.integers(0, 256, (3, *size), np.uint8)
    return {"image": torch.from_numpy(pixels), "instances": instances, **more}


def tight(mask: np.ndarray) -> list[float]:
    ys, xs = np.nonzero(mask)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_as_pixel_by_pixel() -> None:
    dropped = untouched = 0
    for seed in range(30):
        data = mapped(seed, 3, sem_seg=torch.full((12, 16), 99))
        taken = mapped(seed + 1000, 2)
        result = paste(data, taken)
        above = taken["instances"].gt_masks.tensor.numpy()
        image, labels = data["image"].numpy().copy(), data["sem_seg"].numpy().copy()
        masks = data["instances"].gt_masks.tensor.numpy().copy()
        for y in range(12):
            for x in range(16):
                for mask, label in zip(above, taken["instances"].gt_classes.tolist()):
                    if mask[y, x]:
                        image[:, y, x] = taken["image"][:, y, x]
                        labels[y, x] = label
                        masks[:, y, x] = False
        expected, classes, boxes = [], [], []
        for before, after, label in zip(
            data["instances"].gt_masks.tensor.numpy(), masks, data["instances"].gt_classes.tolist()
        ):
            if not after.any():
                dropped += 1
                continue
            expected.append(after)
            classes.append(label)
            same = np.array_equal(before, after)
            untouched += same
            boxes.append([0.5] * 4 if same else tight(after))
        expected += list(above)
        boxes += [tight(mask) for mask in above]
        instances = result["instances"]
        np.testing.assert_array_equal(result["image"], image)
        np.testing.assert_array_equal(result["sem_seg"], labels)
        np.testing.assert_array_equal(instances.gt_masks.tensor, np.stack(expected))
        assert instances.gt_classes.tolist() == classes + taken["instances"].gt_classes.tolist()
        assert instances.gt_boxes.tensor.tolist() == boxes
        assert instances.image_size == (12, 16)
    assert dropped
    assert untouched


@pytest.mark.parametrize("size", [(8, 20), (30, 9), (40, 40)])
def test_an_image_of_another_size_lies_at_a_random_place(size: tuple[int, int]) -> None:
    offsets = set()
    for seed in range(200):
        np.random.seed(seed)
        data, taken = mapped(1, 0), mapped(2, 1, size)
        result = paste(data, taken)
        whole = taken["instances"].gt_masks.tensor[0].numpy()
        top, left = (int(side.min()) for side in np.nonzero(whole))
        if not len(result["instances"]):
            assert torch.equal(result["image"], data["image"])
            continue
        (mask,) = result["instances"].gt_masks.tensor.numpy()
        ys, xs = np.nonzero(mask)
        # Where the object is not cut, its place tells the image's.
        if len(ys) == 36:
            dy, dx = int(ys.min()) - top, int(xs.min()) - left
            offsets.add((dy, dx))
            for offset, side, length in zip((dy, dx), size, (12, 16)):
                assert min(0, length - side) <= offset <= max(0, length - side)
            for y, x in zip(ys, xs):
                assert torch.equal(result["image"][:, y, x], taken["image"][:, y - dy, x - dx])
        np.testing.assert_array_equal(result["image"].numpy()[:, ~mask], data["image"][:, ~mask])
    assert len(offsets) > 3


def test_too_little_that_is_visible_is_dropped_and_empty_masks_stay() -> None:
    data, taken = mapped(0, 2), mapped(1, 1)
    masks = torch.zeros((3, 12, 16), dtype=torch.bool)
    masks[0, 0, :10] = True  # four of ten pixels stay
    masks[1, 1, :10] = True  # none is covered
    data["instances"] = Instances((12, 16), gt_masks=BitMasks(masks), gt_classes=torch.arange(3))
    taken["instances"].gt_masks.tensor[:] = False
    taken["instances"].gt_masks.tensor[0, 0, :6] = True
    for share, kept in {0.0: [0, 1, 2], 0.4: [0, 1, 2], 0.41: [1, 2]}.items():
        classes = paste(data, taken, min_visible=share)["instances"].gt_classes.tolist()
        assert classes[:-1] == kept


def test_pasted_objects_of_which_the_border_leaves_too_little_are_not_pasted() -> None:
    numbers = set()
    for seed in range(60):
        np.random.seed(seed)
        data, taken = mapped(1, 0), mapped(2, 4, (40, 40))
        result = paste(data, taken, min_visible=0.5)
        masks = result["instances"].gt_masks.tensor if len(result["instances"]) else []
        assert all(mask.sum() >= 18 for mask in masks)  # of 36
        if not len(masks):
            assert torch.equal(result["image"], data["image"])
        np.random.seed(seed)
        everything = paste(data, taken)["instances"]
        expected = list(everything.gt_masks.tensor) if len(everything) else []
        assert len(masks) == sum(bool(mask.sum() >= 18) for mask in expected)
        numbers.add((len(masks), len(expected)))
    assert any(0 < kept < every for kept, every in numbers)


def test_blending_softens_the_image_alone() -> None:
    data, taken = mapped(0, 0, (9, 60)), mapped(1, 1, (9, 60))
    data["image"][:], taken["image"][:] = 0, 200
    taken["instances"].gt_masks.tensor[:] = False
    taken["instances"].gt_masks.tensor[0, :, 30:] = True
    result = paste(data, taken, blend=3.0)
    assert torch.equal(result["instances"].gt_masks.tensor, taken["instances"].gt_masks.tensor)
    # The share of a Gaussian around each column that lies right of the border.
    columns = torch.arange(60.0)
    expected = 200 * 0.5 * (1 + torch.erf((columns - 29.5) / (3 * 2**0.5)))
    assert (result["image"][0].float() - expected).abs().max() < 2
    assert result["image"].dtype == torch.uint8


def test_without_objects_nothing_changes() -> None:
    data = mapped(0, 2)
    assert paste(data, mapped(1, 0)) is data
    both = paste(mapped(0, 0), mapped(1, 0))
    assert len(both["instances"]) == 0
