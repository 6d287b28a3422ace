"""Encoding run lengths, and their check, against what pycocotools writes."""

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_util

from solo_family.ops.rle import encode_masks, fills_image, some_columns


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


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5), (2, 40000), (211, 307)])
def test_encoding_equals_pycocotools(share: float, size: tuple[int, int]) -> None:
    masks = np.random.default_rng(0).random((3, *size)) < share
    masks[1, size[0] // 3 :, : size[1] // 2] = True
    assert encode_masks(torch.from_numpy(masks)) == list(map(encoded, masks))


def test_encoding_runs_of_many_digits() -> None:
    masks = np.zeros((2, 3000, 2000), bool)
    masks[0, 5, 3] = masks[0, 2900, 1900] = masks[0, 2950, 1900] = True
    masks[1, 1:] = True
    assert encode_masks(torch.from_numpy(masks)) == list(map(encoded, masks))


def test_encoding_no_masks() -> None:
    assert encode_masks(torch.zeros(0, 5, 7, dtype=torch.bool)) == []


@pytest.mark.parametrize("size", [(1, 9), (7, 5), (300, 40)])
def test_some_columns_are_those_columns(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        start, stop = sorted(rng.choice(size[1] + 1, 2, replace=False))
        mask = np.zeros(size, np.uint8, order="F")
        mask[:, start:stop] = rng.random((size[0], stop - start)) < rng.choice([0, 0.1, 0.9, 1])
        rle = mask_util.encode(mask)
        part = some_columns(rle, int(start), int(stop))
        assert np.array_equal(mask_util.decode(part), mask[:, start:stop])
        text = some_columns(rle | {"counts": rle["counts"].decode()}, int(start), int(stop))
        assert text == part
