"""JPEG files decoded at a fraction of their size: which, how well, and where the masks are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.config.check import check_config
from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
from solo_family.data.loading.image_cache import build_cache
from solo_family.data.loading.reduced import Target
from solo_family.errors import ConfigError, DataError

from ...conftest import tiny_cfg

HEIGHT, WIDTH = 301, 403
BOX = (40, 60, 200, 260)  # y0, x0, y1, x1


def record_of(folder: Path, name: str, form: str) -> dict[str, Any]:
    """A dark image with a bright rectangle, which is its only object."""
    y0, x0, y1, x1 = BOX
    pixels = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    pixels[y0:y1, x0:x1] = 220
    Image.fromarray(pixels).save(folder / name)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[y0:y1, x0:x1] = 1
    polygons = [[x0, y0, x1, y0, x1, y1, x0, y1]]
    annotation = {
        "bbox": [float(x0), float(y0), float(x1), float(y1)],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 0,
        "segmentation": polygons if form == "polygon" else mask_util.encode(mask),
    }
    size = {"height": HEIGHT, "width": WIDTH, "file_name": str(folder / name)}
    return size | {"annotations": [annotation]}


def mapped(record: dict[str, Any], edge: int, *opts: Any, reduced: bool = True) -> dict[str, Any]:
    keys = ["INPUT.MIN_SIZE_TRAIN", (edge,), "INPUT.REDUCED_JPEG", reduced, *opts]
    cfg = tiny_cfg(opts=keys)
    np.random.seed(0)
    cache = build_cache(cfg, [record])
    mapper = MaskDatasetMapper(cfg, is_train=True, cache=cache)
    first = mapper(record)
    np.random.seed(0)
    second = mapper(record)
    assert torch.equal(first["image"], second["image"])
    return second


@pytest.mark.parametrize("num_bytes", [0, 10**7], ids=["decoded", "cached"])
@pytest.mark.parametrize("form", ["polygon", "rle"])
@pytest.mark.parametrize("edge", [140, 70, 36])
def test_masks_lie_where_they_lie_in_whole_images(
    edge: int, form: str, num_bytes: int, tmp_path: Path
) -> None:
    record = record_of(tmp_path, "image.jpg", form)
    opts = ["INPUT.RANDOM_FLIP", "horizontal", "DATALOADER.CACHE_BYTES", num_bytes]
    whole, reduced = (mapped(record, edge, *opts, reduced=way) for way in (False, True))
    # The long edge is that of the decoded image, whose sides were rounded.
    assert min(reduced["image"].shape[1:]) == min(whole["image"].shape[1:])
    assert abs(max(reduced["image"].shape[1:]) - max(whole["image"].shape[1:])) <= 1
    for item in (whole, reduced):
        bright = item["image"].float().mean(0) > 125
        mask = item["instances"].gt_masks.tensor[0]
        assert (bright & mask).sum() / (bright | mask).sum() > 0.85
    boxes = [item["instances"].gt_boxes.tensor for item in (whole, reduced)]
    torch.testing.assert_close(boxes[0], boxes[1], rtol=0, atol=1)
    width = min(item["image"].shape[2] for item in (whole, reduced))
    pair = [item["image"][..., :width].int() for item in (whole, reduced)]
    assert 0 < (pair[0] - pair[1]).abs().float().mean() < 12


@pytest.mark.parametrize(
    ("name", "edge"), [("image.png", 70), ("image.jpg", 151), ("image.jpg", 300), ("image.jpg", 0)]
)
def test_others_are_decoded_whole(name: str, edge: int, tmp_path: Path) -> None:
    """Files of other formats; and images that are resized to half and more, or not at all."""
    record = record_of(tmp_path, name, "rle")
    whole, reduced = (mapped(record, edge, reduced=way)["image"] for way in (False, True))
    assert torch.equal(whole, reduced)


def test_the_fraction_is_the_greatest_that_leaves_enough() -> None:
    for size in [(480, 640), (640, 480), (3000, 4000), (97, 1501), (7, 9)]:
        for short, long in [(64, 1333), (300, 400), (800, 1333), (1, 1)]:
            fraction = Target(short, long).fraction(size)
            scale = min(short / min(size), long / max(size))
            assert min(size) / fraction >= scale * min(size) or fraction == 1
            assert fraction == 8 or 2 * fraction * scale > 1


def test_a_file_of_another_size_is_still_refused(tmp_path: Path) -> None:
    record = record_of(tmp_path, "image.jpg", "rle")
    with pytest.raises(DataError, match=r"but the dataset says .* \(height x width\)"):
        mapped(record | {"height": HEIGHT + 40}, 70)


@pytest.mark.parametrize(
    "opts",
    [
        ["INPUT.CROP.ENABLED", True],
        ["INPUT.LSJ.ENABLED", True],
        ["INPUT.COPY_PASTE.ENABLED", True],
        ["INPUT.CROP.AROUND_OBJECTS", (64, 64)],
    ],
)
def test_it_is_refused_where_parts_are_taken(opts: list[Any]) -> None:
    with pytest.raises(ConfigError, match=f"INPUT.REDUCED_JPEG is True with {opts[0]}"):
        check_config(tiny_cfg(opts=["INPUT.REDUCED_JPEG", True, *opts]))
