"""What is left of annotations before a mask is made of them."""

import math
from typing import Any

import pytest

from solo_family.data.formats.segmentation import usable_segmentation
from solo_family.data.formats.unusable import drop_unusable

TRIANGLE = [0.0, 0.0, 9.0, 0.0, 0.0, 9.0]


@pytest.mark.parametrize(
    ("polygons", "left"),
    [
        ([TRIANGLE], [[TRIANGLE]]),
        ([TRIANGLE, [0.0, 0.0, 1.0, 1.0]], [[TRIANGLE]]),
        ([[0.0, 0.0, math.nan, 0.0, 0.0, 9.0]], []),
        ([[0.0, 0.0, math.inf, 0.0, 0.0, 9.0]], []),
    ],
)
def test_records_without_a_size_have_polygons(polygons: list, left: list) -> None:
    record: dict[str, Any] = {"file_name": "x", "annotations": [{"segmentation": polygons}]}
    drop_unusable([record], f"x{polygons}")
    assert [annotation["segmentation"] for annotation in record["annotations"]] == left


def test_records_of_label_images_have_neither_size_nor_annotations() -> None:
    record = {"file_name": "x", "sem_seg_file_name": "y"}
    drop_unusable([record], "labels")
    assert record == {"file_name": "x", "sem_seg_file_name": "y"}


def test_points_are_near_their_image_and_not_beyond_what_can_be_walked() -> None:
    near, far, beyond = ([0, 0, x, 0, 5, 5] for x in (1000, 3000, 2e6))
    assert usable_segmentation([near, far], (48, 64)) == ([near], {"far": 1})
    assert usable_segmentation([near, far, beyond], (48, 2**24)) == ([near, far], {"far": 1})
    assert usable_segmentation([beyond], (math.inf, math.inf)) == (None, {"far": 1})
