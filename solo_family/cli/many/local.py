"""The engine that predicts in this process."""

import argparse
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from ...data.loading.ahead import ahead
from .model import Description
from .worker import Chunk, Worker, read_chunk

if TYPE_CHECKING:
    import pyarrow as pa


class Local:
    """Predict in this process, while one thread reads.

    Args:
        args: the verb's flags.
        description: of the model.

    Raises:
        SoloFamilyError: the model can't be opened.
    """

    def __init__(self, args: argparse.Namespace, description: Description) -> None:
        self._worker = Worker(args, description)
        self._reading = description.reading

    def __call__(self, chunks: Iterable[Chunk]) -> Iterator["pa.Table"]:
        """Yield the rows of the pictures of each chunk."""
        read = chain.from_iterable(read_chunk(chunk, self._reading) for chunk in chunks)
        yield from map(self._worker, ahead(read, 1, "Reading pictures"))
