"""The check of run lengths, against masks that pycocotools wrote."""

import numpy as np
import pytest
from pycocotools import mask as mask_util

from solo_family.evaluation.rle import fills_image


def encoded(mask: np.ndarray) -> dict:
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (400, 600)])
def test_what_pycocotools_wrote_fills_its_image(share: float, size: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(size) < share
    rle = encoded(mask)
    assert fills_image(rle)
    assert fills_image(rle | {"counts": rle["counts"].encode()})
    assert not fills_image(rle | {"size": [size[0], size[1] + 1]})


@pytest.mark.parametrize(
    "damage",
    [
        lambda counts: counts[:-1],
        lambda counts: counts[:-4],
        lambda counts: counts[1:],
        lambda counts: counts * 2,
        lambda counts: str(counts.encode()),  # "b'...'"
        lambda counts: "",
        lambda counts: "hello",
        lambda counts: counts + "P" * 20,
        lambda counts: counts + "é",
    ],
)
def test_damaged_runs_do_not(damage) -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:30, 20:50] = mask[40:41, 3:70] = True
    rle = encoded(mask)
    assert not fills_image(rle | {"counts": damage(rle["counts"])})
