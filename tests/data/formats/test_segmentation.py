"""What is left of annotations before a mask is made of them."""

import math
from typing import Any

import pytest

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
