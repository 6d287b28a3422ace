"""Colours, crops and their order, as config keys."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T
from PIL import Image

from solo_family.data.loading.augmentation import build_train_augmentation, detectron2_augmentation
from solo_family.errors import ConfigError
from solo_family.export.runtime import ExportedModel
from solo_family.predictor.load import load_predictor

from ...conftest import tiny_cfg


def augmented(image: np.ndarray, *opts: Any) -> np.ndarray:
    keys = ["INPUT.MIN_SIZE_TRAIN", (0,), "INPUT.RANDOM_FLIP", "none", *opts]
    aug_input = T.AugInput(image.copy())
    T.AugmentationList(build_train_augmentation(tiny_cfg(opts=keys)))(aug_input)
    return aug_input.image


def gradient() -> np.ndarray:
    ys, xs = np.mgrid[:32, :48]
    return np.stack([40 + ys, 60 + xs, 100 + 0 * xs], axis=2).astype(np.uint8)


def only(name: str, half_width: float = 0.4) -> list[Any]:
    keys: list[Any] = ["INPUT.COLOR_AUG.ENABLED", True]
    for key in ("BRIGHTNESS", "CONTRAST", "SATURATION"):
        keys += [f"INPUT.COLOR_AUG.{key}", half_width if key == name else 0.0]
    return keys


def test_colours_are_left_alone_by_default() -> None:
    assert np.array_equal(augmented(gradient()), gradient())
    assert np.array_equal(augmented(gradient(), *only("none")), gradient())


def test_brightness_scales_every_pixel_within_its_range() -> None:
    np.random.seed(0)  # detectron2's augmentations draw from numpy's global generator
    factors = set()
    for _ in range(20):
        ratios = augmented(gradient(), *only("BRIGHTNESS")) / gradient()
        assert np.ptp(ratios) < 0.03  # one factor, but for rounding
        factors.add(round(float(ratios.mean()), 2))
    assert 0.58 <= min(factors) < 0.8 < 1.2 < max(factors) <= 1.42


def test_contrast_keeps_the_mean_and_changes_the_spread() -> None:
    np.random.seed(0)
    spreads = set()
    for _ in range(20):
        image = augmented(gradient(), *only("CONTRAST"))
        assert abs(image.mean() - gradient().mean()) < 1
        spreads.add(image.std() / gradient().std())
    assert 0.55 < min(spreads) < 0.8 < 1.2 < max(spreads) < 1.45


def test_saturation_moves_colours_to_and_from_gray() -> None:
    np.random.seed(0)
    spreads = set()
    for _ in range(20):
        image = augmented(gradient(), *only("SATURATION")).astype(float)
        spreads.add(np.ptp(image, axis=2).mean() / np.ptp(gradient(), axis=2).mean())
    assert 0.55 < min(spreads) < 0.8 < 1.2 < max(spreads) < 1.45


@pytest.mark.parametrize("jitter", [False, True])
def test_colours_come_with_crops_and_with_jitter(jitter: bool) -> None:
    np.random.seed(0)
    keys = ["INPUT.COLOR_AUG.ENABLED", True]
    keys += ["INPUT.LSJ.ENABLED", jitter, "INPUT.LSJ.IMAGE_SIZE", 32]
    keys += ["INPUT.CROP.ENABLED", not jitter]
    keys += ["INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", [16, 8]]
    image = augmented(gradient(), *keys)
    assert image.shape == ((32, 32, 3) if jitter else (16, 8, 3))
    assert not np.isin(image[..., 2], [100, 128]).all()


def test_a_crop_beside_jitter_is_refused() -> None:
    """Jitter has the only crop, so that the other one did nothing."""
    keys = ["INPUT.CROP.ENABLED", True, "INPUT.LSJ.ENABLED", True]
    with pytest.raises(ConfigError, match=r"^INPUT\.CROP\.ENABLED is True with INPUT\.LSJ\."):
        augmented(gradient(), *keys)


DETR_CROP = [
    *("INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute_range"),
    *("INPUT.CROP.SIZE", [384, 600]),
]


def sizes_before_the_last_resize(method: str, *opts: Any) -> list[tuple[int, int]]:
    keys = [*DETR_CROP, "INPUT.MIN_SIZE_TRAIN", (0,), "INPUT.RANDOM_FLIP", "none", *opts]
    augmentation = T.AugmentationList(build_train_augmentation(tiny_cfg(method, opts=keys)))
    sizes = []
    for _ in range(60):
        aug_input = T.AugInput(np.zeros((300, 900, 3), np.uint8))
        augmentation(aug_input)
        sizes.append(aug_input.image.shape[:2])
    return sizes


def test_sparseinst_crops_half_of_the_images_after_a_resize() -> None:
    np.random.seed(0)
    sizes = sizes_before_the_last_resize("SparseInst")
    untouched = sum(size == (300, 900) for size in sizes)
    assert 15 <= untouched <= 45
    cropped = [size for size in sizes if size != (300, 900)]
    # Short edges of 400, 500 and 600 leave room for crops taller than the image was.
    assert all(384 <= side <= 600 for size in cropped for side in size)
    assert max(height for height, _ in cropped) > 500
    assert len(set(cropped)) > 10


def test_short_edges_are_a_key() -> None:
    np.random.seed(0)
    sizes = sizes_before_the_last_resize("SparseInst", "INPUT.CROP.SHORT_EDGES", (390,))
    assert max(height for height, _ in sizes if height != 300) <= 390
    assert any(size == (300, 900) for size in sizes)
    sizes = sizes_before_the_last_resize("SOLOv2", "INPUT.CROP.SHORT_EDGES", (400,))
    assert any(size == (300, 900) for size in sizes)


def test_solo_crops_every_image_at_its_own_size() -> None:
    np.random.seed(0)
    sizes = sizes_before_the_last_resize("SOLOv2")
    assert all(height == 300 and 384 <= width <= 600 for height, width in sizes)


def test_after_the_crop_images_are_resized_again() -> None:
    np.random.seed(0)
    sizes = sizes_before_the_last_resize("SparseInst", "INPUT.MIN_SIZE_TRAIN", (128,))
    assert {min(size) for size in sizes} == {128}


@pytest.mark.parametrize(
    "opts",
    [
        ["INPUT.MIN_SIZE_TRAIN", (48,), "INPUT.MAX_SIZE_TRAIN", 640],
        ["INPUT.LSJ.ENABLED", True, "INPUT.LSJ.IMAGE_SIZE", 64, "INPUT.LSJ.MAX_SCALE", 0.1],
    ],
)
@pytest.mark.parametrize("shape", [(1, 3000, 3), (3000, 1, 3)])
def test_a_strip_of_one_pixel_is_not_resized_to_nothing(
    opts: list[Any], shape: tuple[int, ...]
) -> None:
    assert min(augmented(np.full(shape, 99, np.uint8), *opts).shape) > 0


@pytest.mark.parametrize("shape", [(1, 3000, 3), (3000, 1, 3)])
def test_nor_is_it_in_inference(shape: tuple[int, ...]) -> None:
    cfg = tiny_cfg(opts=["INPUT.MIN_SIZE_TEST", 48, "INPUT.MAX_SIZE_TEST", 640])
    aug_input = T.AugInput(np.full(shape, 99, np.uint8))
    T.AugmentationList(detectron2_augmentation(cfg, is_train=False))(aug_input)
    assert sorted(aug_input.image.shape) == [1, 3, 640]


@pytest.mark.parametrize("by", ["pillow", "cv2"])
def test_images_are_resized_by_what_the_key_names(by: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    pillow = np.asarray(Image.fromarray(noise).resize((36, 24), Image.Resampling.BILINEAR))
    opencv = cv2.resize(noise, (36, 24), interpolation=cv2.INTER_LINEAR)
    assert not np.array_equal(pillow, opencv)
    expected = opencv if by == "cv2" else pillow
    keys: list[Any] = ["INPUT.RESIZE", by, "INPUT.FORMAT", "RGB", "INPUT.RANDOM_FLIP", "none"]
    keys += ["INPUT.MIN_SIZE_TRAIN", (24,), "INPUT.MIN_SIZE_TEST", 24, "MODEL.WEIGHTS", ""]
    cfg = tiny_cfg(opts=keys)
    for augmentation in (
        build_train_augmentation(cfg),
        detectron2_augmentation(cfg, is_train=False),
        [load_predictor(cfg).aug],
    ):
        aug_input = T.AugInput(noise.copy())
        T.AugmentationList(augmentation)(aug_input)
        assert np.array_equal(aug_input.image, expected)
    # The exported model reads the choice in its description.
    described = ExportedModel.__new__(ExportedModel)
    given = {"resize": cfg.INPUT.RESIZE, "color": "RGB", "min_size": 24, "max_size": 1333}
    described.description = {"input": given | {"size": None, "pad_value": [0, 0, 0]}}
    assert np.array_equal(described.resize(noise[:, :, ::-1]), expected)


def test_opencv_resizes_labels_as_before_and_any_channels() -> None:
    cfg = tiny_cfg(opts=["INPUT.RESIZE", "cv2", "INPUT.MIN_SIZE_TEST", 24])
    (resize,) = detectron2_augmentation(cfg, is_train=False)
    image = np.random.default_rng(1).integers(0, 256, (60, 90, 5)).astype(np.uint8)
    transform = resize.get_transform(image)
    assert transform.apply_image(image).shape == (24, 36, 5)
    assert transform.apply_image(image[:, :, :1]).shape == (24, 36, 1)
    labels = image[:, :, 0] % 3
    expected = Image.fromarray(labels).resize((36, 24), Image.Resampling.NEAREST)
    assert np.array_equal(transform.apply_segmentation(labels), np.asarray(expected))


@pytest.mark.parametrize("pad", ["gray", "mean"])
def test_jitter_pads_images_as_the_key_says(pad: str) -> None:
    keys = ["INPUT.LSJ.ENABLED", True, "INPUT.LSJ.IMAGE_SIZE", 64, "INPUT.LSJ.PAD", pad]
    keys += ["INPUT.LSJ.MIN_SCALE", 0.5, "INPUT.LSJ.MAX_SCALE", 0.5]
    image = augmented(gradient(), *keys, "MODEL.PIXEL_MEAN", [100.4, 110.6, 120.0])
    assert image.shape == (64, 64, 3)
    expected = [100, 111, 120] if pad == "mean" else [128, 128, 128]
    assert image[-1, -1].tolist() == expected
    assert image[0, 0].tolist() != expected
