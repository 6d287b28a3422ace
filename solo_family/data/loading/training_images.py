"""The training set as mapped images, each of which is a function of where it was drawn."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from detectron2.data import DatasetFromList
from torch.utils.data import Dataset

from ...errors import DataError
from .sampler import Draw
from .seeding import seeded


class TrainingImages(Dataset[dict[str, Any]]):
    """Maps draws to the model's input.

    The mapper's random numbers follow from the draw's seed and place, and so does the image that
    takes the place of one that the mapper refuses. So the same draw is the same input in any
    process, whatever it has loaded before. (detectron2's MapDataset seeds nothing, and its
    replacements depend on what the worker has seen.)

    Args:
        records: detectron2's dicts.
        mapper: returns the input of one, or None for one that can't be used.
    """

    def __init__(
        self,
        records: list[dict[str, Any]],
        mapper: Callable[[dict[str, Any]], dict[str, Any] | None],
    ) -> None:
        self._records = DatasetFromList(records, copy=False)
        self._mapper = mapper

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        """Return the input of a draw.

        Raises:
            DataError: the mapper refuses all images.
        """
        for retry, index in enumerate(self._candidates(draw)):
            with seeded(draw.seed, draw.place, retry):
                data = self._mapper(self._records[index])
            if data is not None:
                return data
        raise DataError(f"None of the {len(self)} training images can be used.")

    def _candidates(self, draw: Draw) -> Iterator[int]:
        """Yield the draw's image, and then the others in an order of the draw's own."""
        yield draw.index
        words = np.random.SeedSequence((draw.seed, draw.place)).generate_state(4)
        others = [index for index in range(len(self)) if index != draw.index]
        random.Random(words.tobytes()).shuffle(others)
        yield from others
