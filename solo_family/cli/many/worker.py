"""Reading and predicting of pictures, as each engine does it in its processes."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...class_maps import with_late_class_maps
from ...data.loading.images import Reading
from ...errors import DataError, OutOfMemoryError, first_line
from ...predictor.predictions import Predictions, keep_confident
from ...saving.picture import Classes, predicted
from ...tiling.tiles import with_tile
from ..batches import Batches, Item, predict_each, read_picture
from ..saving import make_filters
from ..source import Source
from ..tiled_pictures import predict_arrays
from .model import Description, open_model
from .rows import as_table, error_row, result_row

if TYPE_CHECKING:
    import pyarrow as pa

# Pictures with their position in the input, from 1.
Chunk = Sequence[tuple[int, Source]]
# Pictures of more pixels together are not read at the same time.
_MOST_PIXELS = 2**24


def read_chunk(chunk: Chunk, reading: Reading) -> Iterator[list[Item]]:
    """Yield the pictures of a chunk, read, in lists that have room in memory.

    What can't be read has its error, whatever it is: one broken file does not end a run over many.
    """
    items: list[Item] = []
    for image_id, source in chunk:
        item = _read(image_id, source, reading)
        if items and sum(one.pixels for one in items) + item.pixels > _MOST_PIXELS:
            yield items
            items = []
        items.append(item)
    if items:
        yield items


def _read(image_id: int, source: Source, reading: Reading) -> Item:
    item = Item(source, None, image_id)
    try:
        item.image = read_picture(source, reading)
    except DataError as error:
        item.error = error
    except Exception as error:  # decoders can raise any error for a broken file
        item.error = DataError(f"{source}: can't be read: {first_line(error)}")
    return item


class Worker:
    """The model in a process.

    Args:
        args: the verb's flags.
        description: of the model.
        threads: that it computes with; 0 for as many as there are cores.

    Raises:
        SoloFamilyError: the model can't be opened.
    """

    def __init__(
        self, args: argparse.Namespace, description: Description, threads: int = 0
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._model = open_model(args, threads)
        self._batch = args.batch or self._model.batch
        self._tiling = with_tile(self._model.tiling, args.tile)
        self._filters = make_filters(args, self._model.metadata)
        self._threshold = args.confidence_threshold
        self._classes = Classes(self._model.metadata)
        self._padded_size = description.padded_size

    def __call__(self, items: Sequence[Item]) -> "pa.Table":
        """Return the rows of pictures that were read."""
        rows = [error_row(item) for item in items if item.image is None]
        for batch in self._batches(item for item in items if item.image is not None):
            images = [item.image for item in batch if item.image is not None]
            found = predict_each(self._predict, images)
            rows += [self._row(item, one) for item, one in zip(batch, found, strict=True)]
        return as_table(sorted(rows, key=lambda row: row["image_id"]))

    def _batches(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """Yield batches of pictures that are of the same size when they are resized and padded."""

        def size(item: Item) -> tuple[int, int]:
            assert item.image is not None
            return self._padded_size(*item.image.shape[:2])

        for _, group in groupby(sorted(items, key=size), key=size):
            yield from Batches(group, self._batch)

    def _predict(self, images: list[np.ndarray]) -> list[Predictions]:
        with with_late_class_maps():
            return predict_arrays(self._model.predict, self._tiling, images)

    def _row(self, item: Item, found: Predictions | OutOfMemoryError) -> dict[str, Any]:
        if isinstance(found, OutOfMemoryError):
            item.error = found
            return error_row(item)
        kept = self._filters(keep_confident(found, self._threshold))
        return result_row(item, predicted(kept), self._classes)
