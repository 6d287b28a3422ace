"""Colours, crops and their order, as config keys."""

from typing import Any

import numpy as np
import pytest
from detectron2.data import transforms as T

from solo_family.data.augmentation import build_train_augmentation

from ..conftest import tiny_cfg


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
    keys += ["INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", [16, 8]]
    image = augmented(gradient(), *keys)
    assert image.shape == ((32, 32, 3) if jitter else (16, 8, 3))
    assert not np.isin(image[..., 2], [100, 128]).all()
