"""Windows around objects of large images: the same pixels and masks as in the whole image."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.config import check_config
from solo_family.data.loading import dataset_mapper
from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
from solo_family.data.loading.loader import build_train_mapper
from solo_family.data.loading.object_crop import window_around_object, window_around_segment
from solo_family.data.loading.windows import ArrayWindows
from solo_family.errors import ConfigError
from solo_family.ops.window import Window

from ...coco_folder import train_records
from ...conftest import tiny_cfg
from ..coco import HEIGHT, WIDTH, counts, polygon, rectangle, write_dataset
from ..segments import write_panoptic, write_semantic

CORNERS = [(2, 3, 12, 9), (30, 40, 44, 80), (10, 60, 60, 70), (50, 5, 63, 30)]


def cfg_of(size: tuple[int, int], method: str = "SOLOv2", *opts: Any) -> CfgNode:
    """Return a configuration that crops, and does nothing else to images."""
    return tiny_cfg(
        method,
        opts=[
            *("INPUT.CROP.AROUND_OBJECTS", size, "INPUT.MIN_SIZE_TRAIN", (size[0],)),
            *("INPUT.MAX_SIZE_TRAIN", 999, "INPUT.RANDOM_FLIP", "none", *opts),
        ],
    )


def dataset(root: Path, form: str) -> list[dict]:
    annotations = []
    for corners in CORNERS:
        top, left, bottom, right = corners
        segmentation: Any = polygon(*corners)
        if form == "rle":
            segmentation = {"size": [HEIGHT, WIDTH], "counts": counts(rectangle(*corners))}
        box = [left, top, right - left, bottom - top]
        annotations.append(
            {"image_id": 1, "category_id": 7, "bbox": box, "segmentation": segmentation}
        )
    return DatasetCatalog.get(write_dataset(root, annotations, images=1))


def place_of(part: np.ndarray, image: np.ndarray) -> Window:
    """Return where a part of a random image is from, by looking everywhere."""
    height, width = part.shape[:2]
    for top in range(image.shape[0] - height + 1):
        for left in range(image.shape[1] - width + 1):
            if np.array_equal(image[top : top + height, left : left + width], part):
                return Window(top, left, top + height, left + width)
    raise AssertionError("it is from nowhere")


@pytest.mark.parametrize("form", ["polygon", "rle"])
def test_the_window_has_the_image_s_pixels_and_the_visible_parts(tmp_path: Path, form: str) -> None:
    (record,) = dataset(tmp_path, form)
    image = np.asarray(Image.open(record["file_name"]))
    mapper = MaskDatasetMapper(cfg_of((24, 32)), is_train=True)
    np.random.seed(0)
    places, cut = set(), False
    for _ in range(12):
        item = mapper(record)
        pixels = item["image"].permute(1, 2, 0).numpy()
        assert pixels.shape == (24, 32, 3)
        window = place_of(pixels, image)
        places.add(window)
        part = slice(window.top, window.bottom), slice(window.left, window.right)
        expected = [rectangle(*corners)[part] for corners in CORNERS]
        visible = [mask for mask in expected if mask.any()]
        assert visible
        masks = item["instances"].gt_masks.tensor.numpy()
        assert np.array_equal(masks, np.stack(visible))
        cut |= any(
            0 < mask.sum() < rectangle(*corners).sum() for mask, corners in zip(expected, CORNERS)
        )
        for mask, box in zip(visible, item["instances"].gt_boxes.tensor.tolist()):
            rows, columns = np.nonzero(mask)
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert len(places) > 6
    assert cut
    # A function of the random state alone.
    np.random.seed(7)
    first = mapper(record)["image"]
    np.random.seed(7)
    assert (mapper(record)["image"] == first).all()


def test_an_object_that_fits_is_whole_and_another_is_filled_with() -> None:
    size, crop = (100, 120), (20, 30)
    small = {"segmentation": polygon(70, 100, 85, 120)}
    large = {"segmentation": polygon(10, 10, 90, 110)}
    rle = mask_util.encode(np.asfortranarray(np.eye(100, 120, dtype=np.uint8)[:, ::-1]))
    np.random.seed(0)
    for _ in range(50):
        window = window_around_object([small, {**small, "iscrowd": 1}], size, crop)
        assert window.size == crop
        assert window.intersection(Window(70, 100, 85, 120)) == Window(70, 100, 85, 120)
        assert not window.intersection(Window(10, 10, 90, 110)).is_empty
        window = window_around_object([large], size, crop)
        assert window.intersection(Window(10, 10, 90, 110)) == window
        assert Window(0, 0, *size).intersection(window) == window
        window = window_around_object([{"segmentation": rle}], size, crop)
        assert window.left >= 20
        assert window_around_object([], size, (500, 500)) == Window(0, 0, *size)
    assert len({window_around_object([], size, crop) for _ in range(20)}) > 10
    segments = np.zeros(size, np.int32)
    segments[50, 60] = 1
    hits = [window_around_segment(segments, crop) for _ in range(50)]
    whole = Window(50, 60, 51, 61)
    # The two segments are drawn equally often, however large they are.
    assert 15 <= sum(window.intersection(whole) == whole for window in hits) <= 40


def test_of_a_file_with_windows_only_the_window_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (record,) = dataset(tmp_path, "rle")
    read = []

    class Windows(ArrayWindows):
        def read(self, window: Window) -> np.ndarray:
            read.append(window)
            return super().read(window)

    image = np.asarray(Image.open(record["file_name"]))
    monkeypatch.setattr(dataset_mapper, "open_windows", lambda *_: Windows(image))
    MaskDatasetMapper(cfg_of((24, 32)), is_train=True)(record)
    assert [window.size for window in read] == [(24, 32)]


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_semantic_and_panoptic_mappers_crop_too(tmp_path: Path, task: str) -> None:
    name = write_semantic(tmp_path) if task == "semantic" else write_panoptic(tmp_path)[0]
    cfg = cfg_of((24, 32), "MaskFormer", "DATASETS.TRAIN", (name,), "INPUT.FORMAT", "RGB")
    records = train_records(cfg)
    mapper = build_train_mapper(cfg, records)
    np.random.seed(0)
    for record in records:
        item = mapper(record)
        assert item["image"].shape == (3, 24, 32)
        assert item["instances"].image_size == (24, 32)
        assert len(item["instances"]) > 0
        assert item["instances"].gt_masks.tensor.any(dim=2).any(dim=1).all()
        assert item["sem_seg"].shape == (24, 32)
        if task == "semantic":  # of which the red channel tells the label
            labels, red = item["sem_seg"], item["image"][0]
            assert (red[labels != 255] == 50 * labels[labels != 255]).all()
            assert (red[labels == 255] == 250).all()


def test_other_values_are_refused() -> None:
    for value in ((512,), (0, 5), (10, 10, 10), (0.5, 0.5)):
        cfg = tiny_cfg()
        cfg.INPUT.CROP.AROUND_OBJECTS = value
        with pytest.raises(ConfigError, match=r"INPUT.CROP.AROUND_OBJECTS is .*; it must be"):
            check_config(cfg)
