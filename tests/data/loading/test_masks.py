"""Masks after an augmentation, bit for bit those of detectron2's functions."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from fvcore.transforms.transform import HFlipTransform, PadTransform, Transform
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
from solo_family.data.loading.masks import index_maps

from ...conftest import tiny_cfg

HEIGHT, WIDTH = 61, 90


def random_annotation(rng: np.random.Generator, form: str) -> dict[str, Any]:
    """One that a crop may cut, or that has no pixel; polygons may leave the image."""
    if form == "polygon":
        centre = rng.uniform((0, 0), (WIDTH, HEIGHT))
        radius = rng.choice([0.4, 5, 30])
        rings = [centre + rng.normal(0, radius, (rng.integers(3, 9), 2)) for _ in range(2)]
        segmentation: Any = [ring.reshape(-1).tolist() for ring in rings]
    else:
        mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
        y, x = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
        mask[y : y + rng.integers(0, HEIGHT), x : x + rng.integers(1, WIDTH)] = 1
        mask &= rng.random(mask.shape) < rng.choice([0.5, 1])
        segmentation = mask_util.encode(mask)
        if rng.random() < 0.5:
            segmentation["counts"] = segmentation["counts"].decode()
    box = rng.uniform(0, 40, 4).tolist()
    fields = {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": int(rng.integers(3))}
    return fields | {"segmentation": segmentation, "iscrowd": int(rng.random() < 0.1)}


def by_detectron2(mapper: MaskDatasetMapper, record: dict, transforms: Any, size: Any) -> Any:
    """What detectron2's DatasetMapper does with annotations."""
    annotations = [
        detection_utils.transform_instance_annotations(one, transforms, size)
        for one in copy.deepcopy(record["annotations"])
        if not one["iscrowd"]
    ]
    instances = detection_utils.annotations_to_instances(annotations, size, "bitmask")
    if not annotations:
        return instances
    if mapper.recompute_boxes:
        instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    return detection_utils.filter_empty_instances(instances)


WAYS: dict[str, list[Any]] = {
    "as it is": ["INPUT.MIN_SIZE_TRAIN", (0,)],
    "resized": ["INPUT.MIN_SIZE_TRAIN", (40, 61, 97)],
    "cropped": ["INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", (0.5, 0.4)],
    "jitter": ["INPUT.LSJ.ENABLED", True, "INPUT.LSJ.IMAGE_SIZE", 64, "INPUT.LSJ.MIN_SCALE", 0.3],
    "colours": ["INPUT.COLOR_AUG.ENABLED", True, "INPUT.COLOR_AUG_SSD", True],
    "upside down": ["INPUT.RANDOM_FLIP", "vertical"],
}


@pytest.mark.parametrize("way", WAYS)
def test_every_field_is_detectron2s(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "image.png")
    mapper = MaskDatasetMapper(tiny_cfg(opts=WAYS[way]), is_train=True)
    rng = np.random.default_rng(0)
    compared = 0
    ours = mapper._transform_annotations

    def both(record: dict, transforms: Any, size: tuple[int, int]) -> None:
        nonlocal compared
        assert index_maps(transforms, (HEIGHT, WIDTH)) is not None
        expected = by_detectron2(mapper, record, transforms, size).get_fields()
        ours(record, transforms, size)
        found = record["instances"].get_fields()
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            one, other = (getattr(field, "tensor", field) for field in (found[name], value))
            assert one.dtype == other.dtype, name
            assert torch.equal(one, other), name
        compared += len(record["instances"])

    monkeypatch.setattr(mapper, "_transform_annotations", both)
    for seed in range(12):
        np.random.seed(seed)
        forms = rng.choice(["polygon", "rle"], rng.integers(0, 9))
        annotations = [random_annotation(rng, form) for form in forms]
        record = {"file_name": str(tmp_path / "image.png"), "height": HEIGHT, "width": WIDTH}
        mapper(record | {"annotations": annotations})
    assert compared > 12


class Transposed(Transform):
    """Moves rows to columns."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return img.swapaxes(0, 1)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords[:, ::-1]


@pytest.mark.parametrize(
    "other",
    [Transposed(), T.RotationTransform(HEIGHT, WIDTH, 30), PadTransform(1, 1, 1, 1, 0, 0, 0, 9)],
)
def test_other_transforms_move_whole_masks(other: Transform) -> None:
    transforms = T.TransformList([HFlipTransform(WIDTH), other])
    assert index_maps(transforms, (HEIGHT, WIDTH)) is None
    rng = np.random.default_rng(1)
    mapper = MaskDatasetMapper(tiny_cfg(), is_train=True)
    annotations = [random_annotation(rng, "rle") | {"iscrowd": 0} for _ in range(5)]
    decoded = mask_util.decode(annotations[0]["segmentation"])
    size = transforms.apply_segmentation(decoded).shape
    record: dict[str, Any] = {"annotations": annotations, "file_name": "image.png"}
    expected = by_detectron2(mapper, record, transforms, size)
    mapper._transform_annotations(record, transforms, size)
    found = record["instances"]
    assert torch.equal(found.gt_masks.tensor, expected.gt_masks.tensor)
    assert torch.equal(found.gt_boxes.tensor, expected.gt_boxes.tensor)


def test_masks_without_a_pixel_and_runs_of_no_length() -> None:
    """As a tool may write them: pycocotools itself never does."""
    mapper = MaskDatasetMapper(tiny_cfg(), is_train=True)
    lengths = [[0, 0, 12], [12], [5, 0, 7], [0, 2, 0, 1, 9, 0], [12, 0], [0, 12], [3, 2, 7, 0, 0]]
    annotations = [
        {
            "bbox": [0.0, 0.0, 4.0, 3.0],
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": number,
            "iscrowd": 0,
            "segmentation": mask_util.frPyObjects({"size": [3, 4], "counts": runs}, 3, 4),
        }
        for number, runs in enumerate(lengths)
    ]
    for recompute in (False, True):
        mapper.recompute_boxes = recompute
        record: dict[str, Any] = {"annotations": copy.deepcopy(annotations)}
        record["file_name"] = "image.png"
        transforms = T.TransformList([HFlipTransform(4)])
        expected = by_detectron2(mapper, record, transforms, (3, 4))
        mapper._transform_annotations(record, transforms, (3, 4))
        found = record["instances"]
        assert found.gt_classes.tolist() == expected.gt_classes.tolist() == [3, 5, 6]
        assert torch.equal(found.gt_masks.tensor, expected.gt_masks.tensor)
        assert torch.equal(found.gt_boxes.tensor, expected.gt_boxes.tensor)
