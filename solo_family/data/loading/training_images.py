"""The training set as mapped images, each of which depends only on its place in the stream."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from detectron2.data import DatasetFromList
from torch.utils.data import Dataset

from ...errors import DataError
from .copy_paste import CopyPaste
from .sampler import Draw
from .seeding import seeded


class TrainingImages(Dataset[dict[str, Any]]):
    """Map draws to the model's input.

    The draw's seed and place determine the mapper's random numbers, and which image replaces one
    that the mapper can't use. So a draw gives the same input in any process, whatever that process
    loaded before. (detectron2's MapDataset seeds nothing, and its replacements depend on what the
    worker has loaded.)

    Args:
        records: detectron2's dicts.
        mapper: maps a dict to the model's input, or to None if the image can't be used.
        copy_paste: pastes objects of other images on what the mapper returns; None pastes nothing.
    """

    def __init__(
        self,
        records: list[dict[str, Any]],
        mapper: Callable[[dict[str, Any]], dict[str, Any] | None],
        copy_paste: CopyPaste | None = None,
    ) -> None:
        self._records = DatasetFromList(records, copy=False)
        self._mapper = mapper
        self._copy_paste = copy_paste

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        """Return the model's input for a draw.

        Raises:
            DataError: the mapper can't use any image.
        """
        for retry, index in enumerate(self._candidates(draw)):
            with seeded(draw.seed, draw.place, retry):
                data = self._mapper(self._records[index])
                if data is not None and self._copy_paste is not None:
                    data = self._copy_paste(data, index, self._records)
            if data is not None:
                return data
        raise DataError(
            f"None of the {len(self)} training images can be used: the dataset mapper returned "
            "None for each of them. Fix the images that the log names, or the mapper."
        )

    def _candidates(self, draw: Draw) -> Iterator[int]:
        """Yield the index of the draw's image, then all others in an order that the draw seeds."""
        yield draw.index
        words = np.random.SeedSequence((draw.seed, draw.place)).generate_state(4)
        others = [index for index in range(len(self)) if index != draw.index]
        random.Random(words.tobytes()).shuffle(others)
        yield from others
