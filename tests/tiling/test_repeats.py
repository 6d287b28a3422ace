"""Masks that lie on better ones of other tiles, beside the same rule on bools."""

import numpy as np
import pytest
import torch

from solo_family.ops.runs import box_of, runs_of
from solo_family.ops.window import Window
from solo_family.tiling import repeats
from solo_family.tiling.matching import TileObject
from solo_family.tiling.repeats import without_repeats

# The sweep is along the longer axis of what masks cover.
SIZES = [(30, 40), (50, 20)]


def stay(masks: np.ndarray, labels: np.ndarray, tiles: list[set[int]]) -> list[int]:
    """Apply the rule to bools [N, H, W], the best first."""
    kept: list[int] = []
    for index, mask in enumerate(masks):
        covered = any(
            labels[better] == labels[index]
            and not tiles[better] & tiles[index]
            and (masks[better] & mask).sum() >= 0.7 * mask.sum()
            for better in kept
        )
        if not covered:
            kept.append(index)
    return kept


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pairs", [1, 50, 2**14])
def test_a_mask_on_a_better_one_that_stays_is_dropped(
    size: tuple[int, int], pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "_PAIRS_AT_ONCE", pairs)
    random = np.random.default_rng(0)
    masks = np.zeros((60, *size), bool)
    for mask in masks:
        y, x = random.integers(0, size[0] - 4), random.integers(0, size[1] - 4)
        mask[y : y + random.integers(2, 20), x : x + random.integers(2, 20)] = True
    masks[5] = masks[0] = True  # one beside which all others begin
    labels = random.integers(0, 2, 60)
    # Two thirds are of one tile, and others joined from two.
    groups, objects, tiles = [], [], []
    for mask, label in zip(runs_of(torch.from_numpy(masks), Window(0, 0, *size), size[0]), labels):
        seen = {int(tile) for tile in random.choice(4, 1 + (random.random() < 0.3), replace=False)}
        box = box_of(mask, size[0])
        groups.append(list(range(len(objects), len(objects) + len(seen))))
        objects += [TileObject(tile, mask, box, mask.area, 0.5, int(label)) for tile in seen]
        tiles.append(seen)
    runs = [objects[group[0]].runs for group in groups]
    found = without_repeats(groups, runs, objects, size[0])
    expected = stay(masks, labels, tiles)
    assert found == expected
    assert 10 < len(expected) < 55


def test_without_masks_none_stays() -> None:
    assert without_repeats([], [], [], 9) == []
