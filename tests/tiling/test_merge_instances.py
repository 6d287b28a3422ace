"""What a perfect model sees of overlapping tiles gives the truth of the image."""

import numpy as np
import pytest
import torch
from detectron2.structures import Instances

from solo_family.tiling.merge_instances import merge_instances, tile_objects
from solo_family.tiling.tiles import Tiling, place_tiles

from .scenes import Scene, crowd, scene, seen_in


def merged(truth: Scene, tiling: Tiling, order: int | None = None) -> Instances:
    tiles = place_tiles(truth.size, tiling)
    objects = []
    for tile in tiles:
        top, left, bottom, right = tile.window
        seen = seen_in(truth, top, left, bottom - top, right - left)["instances"]
        objects += tile_objects(
            tile, seen.pred_masks, seen.scores, seen.pred_classes, truth.size[0]
        )
    if order is not None:
        objects = [objects[i] for i in np.random.default_rng(order).permutation(len(objects))]
    return merge_instances(objects, tiles, truth.size, tiling.merge)


def assert_is(found: Instances, truth: Scene) -> None:
    """Compare masks, scores and classes; those of one score may come in any order."""
    masks = found.pred_masks.numpy()
    pairs = zip(masks, found.scores.tolist(), found.pred_classes.tolist())
    got = sorted((mask.tobytes(), round(score, 5), label) for mask, score, label in pairs)
    pairs = zip(truth.masks, truth.scores.tolist(), truth.classes.tolist())
    assert got == sorted((mask.tobytes(), round(score, 5), label) for mask, score, label in pairs)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def rectangle(size: tuple[int, int], top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize(("size", "overlap"), [(64, 16), (96, 56), (200, 32), (1000, 8)])
def test_a_crowd_is_the_truth(size: int, overlap: int) -> None:
    truth = crowd(size, (250, 330), 120)
    assert_is(merged(truth, Tiling(size, overlap)), truth)


SIZE = (300, 300)
SCENES = {
    "larger than a tile": [rectangle(SIZE, 10, 20, 290, 280)],
    "as large as the image": [rectangle(SIZE, 0, 0, 300, 300)],
    "corner of four tiles": [rectangle(SIZE, 85, 85, 92, 92)],
    "across the corner of four tiles": [rectangle(SIZE, 60, 70, 120, 110)],
    "one pixel, in the overlap": [rectangle(SIZE, 90, 90, 91, 91)],
    "touching": [
        rectangle(SIZE, 80, 60, 100, 90),
        rectangle(SIZE, 80, 90, 100, 130),
        rectangle(SIZE, 100, 60, 130, 130),
    ],
    "two parts": [rectangle(SIZE, 10, 70, 20, 95) | rectangle(SIZE, 60, 85, 75, 120)],
    "two parts, of which one tile sees one": [
        rectangle(SIZE, 10, 20, 30, 40) | rectangle(SIZE, 10, 84, 30, 90)
    ],
    "one inside the other, which has a hole": [
        rectangle(SIZE, 20, 20, 200, 200) & ~rectangle(SIZE, 80, 80, 120, 120),
        rectangle(SIZE, 85, 85, 115, 115),
    ],
    "one on top of the other, which goes on behind": [
        rectangle(SIZE, 20, 20, 200, 200),
        rectangle(SIZE, 85, 85, 115, 115),
    ],
}


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("overlap", [16, 50])
def test_objects_at_borders(name: str, overlap: int) -> None:
    truth = scene(SCENES[name])
    assert_is(merged(truth, Tiling(100, overlap)), truth)


def test_nothing_is_nothing() -> None:
    truth = Scene(np.zeros((0, 200, 150), bool), np.zeros(0, int), np.zeros(0))
    found = merged(truth, Tiling(64, 16))
    assert len(found) == 0
    assert found.pred_masks.shape == (0, 200, 150)


def test_the_order_of_tiles_does_not_matter() -> None:
    """Also where the tiles contradict one another, and all scores are equal."""
    random = np.random.default_rng(0)
    tiles = place_tiles((200, 200), Tiling(80, 40))
    objects = []
    for tile in tiles:
        masks = torch.zeros((10, 80, 80), dtype=torch.bool)
        for mask in masks:
            y, x = random.integers(0, 60, 2)
            mask[y : y + random.integers(5, 40), x : x + random.integers(5, 40)] = True
        scores = torch.from_numpy(random.integers(1, 3, 10) / 2)
        classes = torch.from_numpy(random.integers(0, 2, 10))
        objects += tile_objects(tile, masks, scores, classes, 200)
    for merge in ("join", "nms"):
        expected = merge_instances(objects, tiles, (200, 200), merge)
        for seed in range(3):
            order = np.random.default_rng(seed).permutation(len(objects))
            found = merge_instances([objects[i] for i in order], tiles, (200, 200), merge)
            assert torch.equal(found.pred_masks, expected.pred_masks)
            assert torch.equal(found.scores, expected.scores)
            assert torch.equal(found.pred_classes, expected.pred_classes)


def two_tiles(
    left: list[tuple[np.ndarray, float, int]],
    right: list[tuple[np.ndarray, float, int]],
    merge: str = "join",
) -> Instances:
    """Merge what two tiles, columns 0 to 100 and 60 to 160, say; masks are of the image."""
    tiles = place_tiles((100, 160), Tiling(100, 40))
    objects = []
    for tile, said in zip(tiles, (left, right), strict=True):
        part = slice(tile.window.left, tile.window.right)
        masks = torch.from_numpy(np.stack([mask[:, part] for mask, _, _ in said]))
        scores = torch.tensor([score for _, score, _ in said])
        classes = torch.tensor([label for _, _, label in said])
        objects += tile_objects(tile, masks, scores, classes, 100)
    return merge_instances(objects, tiles, (100, 160), merge)


WIDE = (100, 160)


def test_a_border_s_piece_is_given_to_the_tile_that_sees_the_whole_object() -> None:
    """Even where its mask is poor and its score is greater."""
    whole, piece = rectangle(WIDE, 20, 70, 40, 130), rectangle(WIDE, 26, 85, 40, 100)
    found = two_tiles([(piece, 0.9, 0)], [(whole, 0.6, 0)])
    assert np.array_equal(found.pred_masks.numpy(), whole[None])
    assert found.scores.tolist() == pytest.approx([0.6])


def test_of_two_masks_that_both_tiles_see_whole_the_better_one_is_kept() -> None:
    one, other = rectangle(WIDE, 20, 70, 40, 90), rectangle(WIDE, 22, 70, 40, 90)
    found = two_tiles([(one, 0.6, 0)], [(other, 0.7, 0)])
    assert np.array_equal(found.pred_masks.numpy(), other[None])


def test_a_good_mask_is_not_given_up_for_a_poor_one_that_is_larger() -> None:
    """Neither where they agree in the overlap, nor where the larger one contains the other."""
    good, larger = rectangle(WIDE, 20, 70, 40, 90), rectangle(WIDE, 20, 70, 40, 140)
    found = two_tiles([(good, 0.9, 0)], [(larger, 0.8, 0)])
    assert np.array_equal(found.pred_masks.numpy(), np.stack([good]))
    everything = rectangle(WIDE, 5, 62, 95, 150)
    found = two_tiles([(good, 0.9, 0)], [(everything, 0.2, 0)])
    assert np.array_equal(found.pred_masks.numpy(), np.stack([good, everything]))
    # It is a piece of one that scores more.
    found = two_tiles([(good, 0.9, 0)], [(everything, 0.95, 0)])
    assert np.array_equal(found.pred_masks.numpy(), everything[None])


def test_parts_of_very_different_scores_are_not_joined() -> None:
    mask = rectangle(WIDE, 20, 10, 60, 150)
    for score, stop in ((0.3, 150), (0.2, 100)):
        found = two_tiles([(mask, 0.9, 0)], [(mask, score, 0)])
        assert np.array_equal(found.pred_masks.numpy(), rectangle(WIDE, 20, 10, 60, stop)[None])
        assert found.scores.tolist() == pytest.approx([0.9])


def test_a_piece_that_scores_twice_as_much_is_kept() -> None:
    whole, piece = rectangle(WIDE, 20, 70, 40, 130), rectangle(WIDE, 26, 85, 40, 100)
    found = two_tiles([(piece, 0.9, 0)], [(whole, 0.4, 0)])
    assert found.scores.tolist() == pytest.approx([0.9, 0.4])


def test_classes_are_kept_apart() -> None:
    mask = rectangle(WIDE, 20, 70, 40, 90)
    assert len(two_tiles([(mask, 0.6, 0)], [(mask, 0.7, 1)])) == 2


def test_masks_that_hardly_agree_are_two_objects() -> None:
    one, other = rectangle(WIDE, 20, 70, 40, 90), rectangle(WIDE, 20, 82, 40, 102)
    assert len(two_tiles([(one, 0.6, 0)], [(other, 0.7, 0)])) == 2


def test_two_halves_of_one_object_that_the_other_tile_sees_are_dropped_with_a_better_whole() -> (
    None
):
    whole = rectangle(WIDE, 20, 65, 60, 95)
    halves = [(rectangle(WIDE, 20, 65, 40, 95), 0.8, 0), (rectangle(WIDE, 40, 65, 60, 95), 0.7, 0)]
    assert len(two_tiles(halves, [(whole, 0.9, 0)])) == 1
    # A better half drops the whole, and the other half stays.
    assert len(two_tiles(halves, [(whole, 0.75, 0)])) == 2


@pytest.mark.parametrize("merge", ["join", "nms"])
def test_second_masks_of_an_object_stay_of_one_tile_alone(merge: str) -> None:
    """Of each pair that agrees the better one is kept, and these are of different tiles."""
    mask, second = rectangle(WIDE, 20, 70, 40, 90), rectangle(WIDE, 18, 70, 40, 90)
    left, right = [(mask, 0.6, 0), (second, 0.5, 0)], [(mask, 0.7, 0), (second, 0.4, 0)]
    found = two_tiles(left, right, merge)
    assert np.array_equal(found.pred_masks.numpy(), mask[None])
    # Both of one tile are the method's business, and so are masks of which less is covered.
    assert len(two_tiles([(mask, 0.6, 0), (second, 0.5, 0)], [(mask, 0.7, 1)], merge)) == 3
    other = rectangle(WIDE, 30, 70, 60, 90)
    found = two_tiles([(mask, 0.6, 0), (other, 0.5, 0)], [(mask, 0.7, 0), (other, 0.4, 0)], merge)
    assert len(found) == 2


def test_nms_keeps_the_better_piece_and_joins_nothing() -> None:
    mask = rectangle(WIDE, 20, 10, 60, 150)
    found = two_tiles([(mask, 0.6, 0)], [(mask, 0.9, 0)], "nms")
    assert np.array_equal(found.pred_masks.numpy(), rectangle(WIDE, 20, 60, 60, 150)[None])
    assert len(two_tiles([(mask, 0.6, 0)], [(mask, 0.9, 0)])) == 1
