"""Read pictures, and put those that follow one another into batches.

H W of a picture, C of its channels.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from ..data.loading.images import Reading, read_image
from ..errors import DataError, OutOfMemoryError
from ..predictor.predictions import Predictions
from ..saving.journal import Known
from .source import Source

# Of a batch; larger pictures are predicted one by one.
MOST_PIXELS = 2**22

T = TypeVar("T", bound="Item")


@dataclass
class Item:
    """A picture or a frame that was read.

    Attributes:
        source: where it is from.
        output: the file to draw to, or None.
        image_id: its position in the input, from 1.
        image: uint8 [H, W, C] of the working format; None if it could not be read.
        error: why not.
        frame: of a video, from 0; None for a picture.
        seconds: since the video's first frame; None if unknown.
        known: what an interrupted run has predicted, which is saved again.
        is_whole: no part of it could not be read.
        picture: uint8 [H, W, 3], BGR, to draw on; None makes it of `image`.
    """

    source: Source
    output: Path | None
    image_id: int
    image: np.ndarray | None = None
    error: Exception | None = None
    frame: int | None = None
    seconds: float | None = None
    picture: np.ndarray | None = None
    known: Known | None = None
    is_whole: bool = True

    @property
    def pixels(self) -> int:
        """H times W; 0 if it could not be read."""
        return 0 if self.image is None else self.image.shape[0] * self.image.shape[1]


def read_picture(source: Source, reading: Reading) -> np.ndarray:
    """Read a picture, uint8 [H, W, C] of the reading's format.

    Raises:
        DataError: see `read_image` and `Source.file`.
    """
    with source.file() as path:
        try:
            return read_image(str(path), reading.image_format, reading.of_page(source.page))
        except DataError as error:
            if source.path is not None:
                raise
            # Not the name of a temporary file.
            raise DataError(str(error).replace(str(path), str(source))) from error


class Batches(Generic[T]):
    """Consecutive items in lists of at most `size`, and of at most `MOST_PIXELS`, in their order.

    Where fewer have room, they are a multiple of half the size if possible, for a core each.

    Args:
        items: read one after another.
        size: at least 1.
    """

    def __init__(self, items: Iterable[T], size: int) -> None:
        self._items = items
        self._size = size

    def __iter__(self) -> Iterator[list[T]]:
        batch: list[T] = []
        for item in self._items:
            if batch and sum(one.pixels for one in batch) + item.pixels > MOST_PIXELS:
                count = len(batch) - len(batch) % max(1, self._size // 2) or len(batch)
                yield batch[:count]
                batch = batch[count:]
                if batch and sum(one.pixels for one in batch) + item.pixels > MOST_PIXELS:
                    yield batch
                    batch = []
            batch.append(item)
            if len(batch) == self._size:
                yield batch
                batch = []
        if batch:
            yield batch


def predict_each(
    predict: Callable[[list[np.ndarray]], list[Predictions]], images: list[np.ndarray]
) -> list[Predictions | OutOfMemoryError]:
    """Predict a batch, and if it needs too much memory, its pictures one by one.

    Returns:
        For each picture its predictions, or the error that it has even alone.
    """
    if not images:
        return []
    try:
        return [*predict(images)]
    except OutOfMemoryError as error:
        if len(images) == 1:
            # Not this one, whose traceback holds all that the model had in memory.
            return [OutOfMemoryError(str(error))]
    return [one for image in images for one in predict_each(predict, [image])]
