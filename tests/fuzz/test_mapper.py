"""The training mapper on pictures of every size with 0 to 300 objects, whole or out of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.structures import BoxMode
from detectron2.utils.env import seed_all_rng
from hypothesis import strategies as st
from PIL import Image

from solo_family.data.loading.dataset_mapper import MaskDatasetMapper

from ..coco_folder import run_cfg
from .fuzzing import counts, fuzz

MOST_PIXELS = 20_000_000
AUGMENTATIONS: dict[str, list[Any]] = {
    "plain": ["INPUT.MIN_SIZE_TRAIN", (0,)],
    "flip": ["INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.RANDOM_FLIP", "horizontal"],
    "crop": ["INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.CROP.ENABLED", True],
    "jitter": ["INPUT.LSJ.ENABLED", True, "INPUT.LSJ.IMAGE_SIZE", 96],
}
side = st.one_of(st.integers(1, 9), st.integers(1, 200), st.integers(1, 2000))
number = st.floats(-200, 2200) | st.integers(-50, 2050)
polygon = st.lists(number, min_size=6, max_size=14).map(
    lambda values: values[: len(values) // 2 * 2]
)
modes = st.sampled_from(["RGB", "L", "RGBA", "P", "CMYK", "1", "I;16", "F"])


@pytest.mark.parametrize("kind", AUGMENTATIONS)
@counts
def test_any_picture_with_any_polygons(tmp_path: Path, kind: str, examples: int) -> None:
    # The pictures of more than 8 bits have values of no more.
    opts = [*AUGMENTATIONS[kind], "INPUT.RANGE", (0, 255)]
    mapper = MaskDatasetMapper(run_cfg("", tmp_path, *opts), is_train=True)
    path = tmp_path / "picture.tiff"

    def check(values: tuple[int, int, str, list[tuple[list[float], int]], int]) -> None:
        height, width, mode, drawn, copies = values
        seed_all_rng(height)
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        picture = Image.fromarray(pixels)
        (picture.convert("L") if mode in ("I;16", "F") else picture).convert(mode).save(path)
        most = min(300, max(1, MOST_PIXELS // max(height * width, 96 * 96)))
        annotations = [
            {
                "segmentation": [corners],
                "bbox": [0, 0, width, height],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": 0,
                "iscrowd": crowd,
            }
            for corners, crowd in (drawn * copies)[:most]
        ]
        record = {"file_name": str(path), "height": height, "width": width, "image_id": 1}
        mapped = mapper(record | {"annotations": annotations})
        image, instances = mapped["image"], mapped["instances"]
        assert image.shape[0] == 3
        assert min(image.shape) > 0
        assert instances.image_size == tuple(image.shape[1:])
        assert len(instances) <= len(annotations)
        if len(instances):
            assert instances.gt_masks.tensor.shape[1:] == image.shape[1:]
            assert instances.gt_boxes.tensor.isfinite().all()

    drawn = st.lists(st.tuples(polygon, st.sampled_from([0, 0, 0, 1])), max_size=5)
    example = st.tuples(side, side, modes, drawn, st.sampled_from([1, 1, 60]))
    fuzz(check, example, examples, tmp_path)
