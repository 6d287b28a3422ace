import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.data import DatasetMapper
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util
from scipy import ndimage
from torch import Tensor

from solo_family.errors import DataError
from solo_family.modeling.gt_masks import (
    downsample_masks,
    downsample_soft_masks,
    mask_centers,
    with_bitmasks,
)

from ..coco_folder import noise
from ..conftest import METHODS, picture, tiny_cfg, tiny_model


def reference_downsample(mask: Tensor, padded_size: tuple[int, int], stride: int) -> Tensor:
    padded = np.zeros(padded_size, np.uint8)
    padded[: mask.shape[0], : mask.shape[1]] = mask.numpy()
    size = (padded_size[1] // stride, padded_size[0] // stride)
    return torch.from_numpy(cv2.resize(padded, size, interpolation=cv2.INTER_LINEAR)).bool()


def blobs(count: int, height: int, width: int, seed: int) -> Tensor:
    """Masks of noise at several scales: single pixels to large regions."""
    random = np.random.default_rng(seed)
    masks = [
        ndimage.gaussian_filter(random.random((height, width)), sigma) > random.uniform(0.45, 0.55)
        for sigma in random.uniform(0, 4, count)
    ]
    return torch.from_numpy(np.array(masks, dtype=bool).reshape(count, height, width))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    height=st.integers(1, 100),
    width=st.integers(1, 100),
    extra=st.sampled_from([0, 32]),
    stride=st.sampled_from([4, 8, 16]),
    count=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_downsampling_is_that_of_opencv(
    height: int, width: int, extra: int, stride: int, count: int, seed: int
) -> None:
    padded_size = (-(-height // 32) * 32, -(-width // 32) * 32 + extra)
    masks = blobs(count, height, width, seed)
    small = downsample_masks([masks], padded_size, stride)
    assert small.dtype == torch.bool
    assert small.shape == (count, padded_size[0] // stride, padded_size[1] // stride)
    for mask, found in zip(masks, small):
        assert torch.equal(found, reference_downsample(mask, padded_size, stride))


@pytest.mark.parametrize("stride", [2, 4, 8])
@pytest.mark.parametrize("size", [(50, 70), (64, 96), (1, 1), (33, 90)])
def test_soft_masks_are_those_of_bilinear_interpolation(size: tuple[int, int], stride: int) -> None:
    masks = blobs(3, *size, seed=1)
    padded = torch.zeros(3, 64, 96)
    padded[:, : size[0], : size[1]] = masks
    expected = F.interpolate(
        padded[:, None], size=(64 // stride, 96 // stride), mode="bilinear", align_corners=False
    )
    found = downsample_soft_masks([masks], (64, 96), stride)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected[:, 0])


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_no_masks_to_downsample(stride: int) -> None:
    none = torch.zeros(0, 50, 70, dtype=torch.bool)
    assert downsample_masks([none], (64, 96), stride).shape == (0, 64 // stride, 96 // stride)


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (61, 90)])
def test_centres_are_those_of_scipy(size: tuple[int, int]) -> None:
    masks = blobs(6, *size, seed=3)
    masks[0] = True
    masks[1] = False
    masks[1, -1, 0] = True
    area, center_y, center_x = mask_centers([masks])
    assert area.tolist() == [int(mask.sum()) for mask in masks]
    assert area.dtype == torch.int64
    assert center_y.dtype == center_x.dtype == torch.float32
    for index, mask in enumerate(masks.numpy()):
        if mask.any():
            expected = ndimage.center_of_mass(mask)
            assert center_y[index] == np.float32(expected[0])
            assert center_x[index] == np.float32(expected[1])


def test_centres_of_large_masks_are_rounded_once() -> None:
    # Sums of rows and columns above 2^24 have no exact float32.
    height, width = 800, 1333
    ys, xs = torch.arange(height)[:, None], torch.arange(width)
    masks = torch.stack([xs * (n + 1) >= ys * (8 - n) for n in range(8)])
    _, center_y, center_x = mask_centers([masks])
    for index, mask in enumerate(masks.numpy()):
        rows, columns = np.nonzero(mask)
        assert center_y[index] == np.float32(int(rows.sum()) / len(rows))
        assert center_x[index] == np.float32(int(columns.sum()) / len(columns))


def test_centres_of_empty_masks_and_of_none() -> None:
    area, center_y, center_x = mask_centers([torch.zeros(2, 5, 6, dtype=torch.bool)])
    assert area.tolist() == center_y.tolist() == center_x.tolist() == [0, 0]
    assert [len(value) for value in mask_centers([torch.zeros(0, 5, 6, dtype=torch.bool)])] == [
        0
    ] * 3


def instances(count: int) -> Instances:
    result = Instances((12, 10))
    result.gt_boxes = Boxes(torch.zeros(count, 4))
    result.gt_classes = torch.arange(count)
    return result


def test_bitmasks_are_left_alone() -> None:
    given_ = instances(1)
    given_.gt_masks = BitMasks(torch.ones(1, 12, 10, dtype=torch.bool))
    assert torch.equal(with_bitmasks(given_).gt_masks.tensor, given_.gt_masks.tensor)


def test_masks_that_a_mapper_has_left_out(tmp_path: Path) -> None:
    """As detectron2's own does; with the keys that the message names it gives them."""
    noise(8, 8).save(tmp_path / "0.png")
    rle = mask_util.encode(np.asfortranarray(np.eye(8, dtype=np.uint8)))
    one = {"bbox": [0, 0, 8, 8], "bbox_mode": 0, "category_id": 0, "segmentation": rle}
    record = {"file_name": str(tmp_path / "0.png"), "annotations": [one]}

    def mapped(*opts: Any) -> Instances:
        cfg = tiny_cfg(opts=["INPUT.MIN_SIZE_TRAIN", (8,), "INPUT.RANDOM_FLIP", "none", *opts])
        return DatasetMapper(cfg, is_train=True)(copy.deepcopy(record))["instances"]

    with pytest.raises(DataError, match=r"needs MODEL\.MASK_ON True and, for RLE, INPUT\.MASK_F"):
        with_bitmasks(mapped())
    masks = with_bitmasks(mapped("MODEL.MASK_ON", True, "INPUT.MASK_FORMAT", "bitmask")).gt_masks
    assert torch.equal(masks.tensor[0], torch.eye(8).bool())


def test_no_objects_give_empty_masks() -> None:
    result = with_bitmasks(instances(0))
    assert isinstance(result.gt_masks, BitMasks)
    assert result.gt_masks.tensor.shape == (0, 12, 10)
    assert result.gt_masks.tensor.dtype == torch.bool
    assert len(result) == 0


def test_empty_polygons_give_empty_masks() -> None:
    given_ = instances(0)
    given_.gt_masks = PolygonMasks([])
    result = with_bitmasks(given_)
    assert isinstance(result.gt_masks, BitMasks)
    assert result.gt_masks.tensor.shape == (0, 12, 10)


def test_polygons_are_rasterised() -> None:
    given_ = instances(2)
    # The second object has two parts.
    polygons = [
        [[2, 3, 8, 3, 8, 9, 2, 9]],
        [[0, 0, 4, 0, 4, 2, 0, 2], [5, 6, 10, 6, 10, 12, 5, 12]],
    ]
    given_.gt_masks = PolygonMasks([[np.array(part, float) for part in one] for one in polygons])
    result = with_bitmasks(given_)
    expected = torch.zeros(2, 12, 10, dtype=torch.bool)
    expected[0, 3:9, 2:8] = True
    expected[1, 0:2, 0:4] = True
    expected[1, 6:12, 5:10] = True
    assert torch.equal(result.gt_masks.tensor, expected)
    assert result.gt_classes.tolist() == [0, 1]
    assert isinstance(given_.gt_masks, PolygonMasks)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_a_tensor_is_taken(dtype: torch.dtype) -> None:
    """As MaskFormer's official panoptic mapper gives masks."""
    given_ = instances(2)
    given_.gt_masks = torch.zeros(2, 12, 10, dtype=dtype)
    given_.gt_masks[1, 3:9, 2:8] = 1
    result = with_bitmasks(given_)
    assert isinstance(result.gt_masks, BitMasks)
    assert torch.equal(result.gt_masks.tensor, given_.gt_masks.bool())


def test_objects_without_masks_are_an_error() -> None:
    with pytest.raises(DataError, match="segmentation"):
        with_bitmasks(instances(1))


def test_objects_without_classes_are_an_error() -> None:
    given_ = Instances((12, 10), gt_masks=BitMasks(torch.ones(1, 12, 10, dtype=torch.bool)))
    with pytest.raises(DataError, match=r"have gt_masks, but no gt_classes\. Set gt_classes"):
        with_bitmasks(given_)


@pytest.mark.parametrize("method", METHODS)
def test_boxes_that_are_missing_are_those_of_the_masks(method: str) -> None:
    """And an image without objects needs no fields, as other code leaves them out."""
    whole, bare = [picture(objects=2)], [picture(objects=2)]
    whole[0]["instances"].gt_boxes = whole[0]["instances"].gt_masks.get_bounding_boxes()
    bare[0]["instances"].remove("gt_boxes")
    bare.append(picture() | {"instances": Instances((64, 96))})
    whole.append(picture(objects=0) | {"image": bare[1]["image"]})
    losses = []
    for data in (whole, bare):
        torch.manual_seed(0)
        losses.append(tiny_model(method)(data))
    assert losses[0].keys() == losses[1].keys()
    for name, loss in losses[0].items():
        torch.testing.assert_close(losses[1][name], loss)


def test_a_training_input_without_truth_is_an_error() -> None:
    """As detectron2's own mapper gives for semantic labels."""
    item = {"file_name": "a.png", "image": torch.zeros(3, 64, 64), "sem_seg": torch.zeros(64, 64)}
    with pytest.raises(DataError, match=r"has file_name, image, sem_seg, but no 'instances'"):
        tiny_model("MaskFormer")([item])
