"""Small predictions are the same predictions, and the table's rows are what is painted."""

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import Metadata

from solo_family.cli.web.drawing import draw, for_screen, screen_scale, thumbnail
from solo_family.cli.web.rows import Row, rows_of
from solo_family.cli.web.small import made_small, resized
from solo_family.predictor.predictions import keep_confident
from solo_family.saving.filters import Filters
from solo_family.saving.picture import predicted

from .models import (
    BRIGHT,
    FAINT,
    METADATA,
    H,
    W,
    find_classes,
    find_instances,
    find_segments,
    scene,
)

FINDERS = [find_instances, find_classes, find_segments]


def small(find: Any) -> dict[str, Any]:
    return made_small(keep_confident(find(scene()), 0.0))


@pytest.mark.parametrize("find", FINDERS)
def test_small_predictions_are_saved_as_the_models_own(find: Any) -> None:
    before, after = predicted(keep_confident(find(scene()), 0.0)), predicted(small(find))
    assert before.keys() == after.keys()
    assert before.get("instances") == after.get("instances")
    if "labels" in before:
        np.testing.assert_array_equal(before["labels"], after["labels"])
    if "segments" in before:
        np.testing.assert_array_equal(before["segments"][0], after["segments"][0])
        assert before["segments"][1] == after["segments"][1]


def test_an_empty_mask_is_no_row() -> None:
    found = find_instances(scene())
    found["instances"].pred_masks[1] = False
    kept = made_small(keep_confident(found, 0.0))
    assert [row.number for row in rows_of(kept, METADATA)] == [1]


@pytest.mark.parametrize("find", [find_instances, find_segments])
def test_a_row_describes_an_object(find: Any) -> None:
    high, low = rows_of(small(find), METADATA)
    assert (high.number, high.name, high.score, high.area) == (1, "high", 1.0, 24 * 20)
    assert (low.number, low.name, low.area) == (2, "low", 10 * 20)
    assert low.score == pytest.approx(0.6)
    assert (high.box, low.box) == ((4, 10, 24, 34), (40, 5, 60, 15))


def test_a_row_describes_a_class_of_pixels() -> None:
    dark, bright = rows_of(small(find_classes), METADATA)
    assert (dark.name, dark.score, dark.area, dark.box) == ("low", None, H * W - 680, (0, 0, W, H))
    assert (bright.name, bright.area, bright.box) == ("high", 680, (4, 5, 60, 34))


@pytest.mark.parametrize("find", FINDERS)
def test_the_middle_of_a_row_is_painted_in_its_colour(find: Any) -> None:
    found = small(find)
    rows = rows_of(found, METADATA)
    painted = draw(scene(), found, [], METADATA, (H, W))
    assert len(rows) == 2
    for row in rows:
        x, y = row.middle
        expected = (scene()[y, x].astype(float) + row.colour) / 2
        np.testing.assert_allclose(painted[y, x], expected, atol=1)


def test_the_middle_lies_in_a_mask_that_is_a_ring() -> None:
    found = find_instances(scene())
    ring = torch.zeros(2, H, W, dtype=torch.bool)
    ring[:, 4:40, 4:60] = True
    ring[:, 8:36, 8:56] = False
    found["instances"].pred_masks = ring
    for row in rows_of(made_small(keep_confident(found, 0.0)), METADATA):
        assert ring[0, row.middle[1], row.middle[0]]


@pytest.mark.parametrize("find", FINDERS)
def test_classes_that_are_not_chosen_are_neither_painted_nor_rows(find: Any) -> None:
    colours = Metadata(**METADATA.as_dict(), stuff_colors=[(250, 0, 0), (0, 250, 0)])
    for metadata in (METADATA, colours):
        found = Filters(labels=(1,))(small(find))
        rows = rows_of(found, metadata)
        assert [row.name for row in rows] == ["high"]
        painted = draw(scene(), found, rows, metadata, (H, W))
        changed = (painted != scene()).any(axis=2)
        assert not changed[:4].any()  # the dark class, and what is around
        assert changed[FAINT].any() == (find is find_classes)
        assert changed[BRIGHT].mean() > 0.9
        if metadata is colours and find is find_classes:
            assert rows[0].colour == (0, 250, 0)


def test_a_picture_is_shown_in_a_size_for_the_screen() -> None:
    assert [screen_scale(size) for size in [(10000, 10000), (1600, 1200), (48, 64), (1, 1)]] == [
        0.16,
        1.0,
        14.0,
        900.0,
    ]
    image = scene()
    shown = for_screen(image)
    drawn = draw(shown, small(find_instances), [], METADATA, (H, W))
    assert drawn.shape == (14 * H, 14 * W, 3)
    np.testing.assert_array_equal(shown, for_screen(scene()))
    wide = np.zeros((1, 5000, 3), np.uint8)
    assert thumbnail(wide, 160).shape == (1, 160, 3)


@pytest.mark.parametrize("factor", [2, 0.5])
@pytest.mark.parametrize("find", FINDERS)
def test_predictions_in_another_size_are_those_of_the_pixels_there(
    find: Any, factor: float
) -> None:
    found, size = small(find), (int(H * factor), int(W * factor))
    other = resized(found, (H, W), size)

    def scaled(values: Any) -> Any:
        rows, columns = (
            [int((place + 0.5) / factor) for place in range(length)] for length in size
        )
        return np.asarray(values)[..., rows, :][..., columns]

    if "instances" in found:
        masks = other["instances"].pred_masks
        np.testing.assert_array_equal(masks.numpy(), scaled(found["instances"].pred_masks.numpy()))
        np.testing.assert_array_equal(other["instances"].pred_boxes.tensor, masks.boxes)
    if "sem_seg" in found:
        labels = other["sem_seg"].argmax()
        np.testing.assert_array_equal(labels, scaled(found["sem_seg"].argmax()))
    if "panoptic_seg" in found:
        np.testing.assert_array_equal(other["panoptic_seg"][0], scaled(found["panoptic_seg"][0]))


def test_an_object_that_is_too_small_for_the_screen_has_a_pixel() -> None:
    found = find_instances(scene())
    found["instances"].pred_masks = torch.zeros(2, H, W, dtype=torch.bool)
    found["instances"].pred_masks[0, 1, 1] = True
    other = resized(made_small(keep_confident(found, 0.0)), (H, W), (6, 8))
    assert [int(mask.sum()) for mask in other["instances"].pred_masks] == [1]


def test_a_number_is_written_where_it_has_room() -> None:
    image = np.full((200, 300, 3), 100, np.uint8)
    nothing = {"instances": small(find_instances)["instances"][:0]}
    row = Row(1, "a", 1.0, 9, (20, 20, 120, 120), (70, 70), (0, 0, 0))
    narrow = Row(2, "a", 1.0, 9, (200, 20, 206, 120), (203, 70), (0, 0, 0))
    drawn = draw(image, nothing, [row, narrow], METADATA, (200, 300))
    changed = (drawn != image).any(axis=2)
    assert changed[55:85, 55:85].any()
    assert not changed[:, 150:].any()
