"""An image of the training set is a function of its draw alone."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from solo_family.data.loading.sampler import Draw
from solo_family.data.loading.training_images import TrainingImages
from solo_family.errors import DataError

RECORDS = [{"index": index} for index in range(9)]


def three_numbers(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "drawn": (random.random(), np.random.rand(), torch.rand(1).item())}


def refuse_even(record: dict[str, Any]) -> dict[str, Any] | None:
    return three_numbers(record) if record["index"] % 2 else None


def test_the_same_draw_is_the_same_image_whatever_came_before() -> None:
    images, others = TrainingImages(RECORDS, three_numbers), TrainingImages(RECORDS, three_numbers)
    draws = [Draw(index % 9, index, 3) for index in range(40)]
    first = [images[draw] for draw in draws]
    assert [others[draw] for draw in reversed(draws)] == first[::-1]
    assert len({number for item in first for number in item["drawn"]}) == 120
    assert images[draws[4]] == first[4]
    assert images[replace(draws[4], seed=4)] != first[4]


def test_what_others_draw_goes_on_as_it_was() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = three_numbers({})
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    TrainingImages(RECORDS, three_numbers)[Draw(0, 0, 0)]
    assert three_numbers({}) == expected


def test_the_replacement_of_a_refused_image_depends_on_the_draw_alone() -> None:
    images = TrainingImages(RECORDS, refuse_even)
    replacements = [images[Draw(2, place, 0)] for place in range(60)]
    assert {item["index"] for item in replacements} == {1, 3, 5, 7}
    again = TrainingImages(RECORDS, refuse_even)
    assert [again[Draw(2, place, 0)] for place in range(59, -1, -1)] == replacements[::-1]


def test_when_all_are_refused_it_ends() -> None:
    with pytest.raises(DataError, match="None of the 9 training images"):
        TrainingImages(RECORDS, lambda record: None)[Draw(0, 0, 0)]
