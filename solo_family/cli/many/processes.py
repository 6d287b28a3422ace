"""What the processes of a Ray cluster do: reading, and predicting with a model that stays.

Tables of Ray Data go between them, with one object in each cell.
"""

import argparse
import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import SoloFamilyError
from .model import Description
from .worker import Worker, read_chunk

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Box:
    """What a cell of a table of Ray Data holds; without it lists become columns of Arrow."""

    content: Any


@dataclass(frozen=True)
class Failure:
    """Why a worker can't do its work.

    Attributes:
        text: of the error.
        is_told: whether the text is all that a user needs.
    """

    text: str
    is_told: bool


def _failure(error: Exception) -> Failure:
    if isinstance(error, SoloFamilyError):
        return Failure(str(error), is_told=True)
    return Failure("".join(traceback.format_exception(error)), is_told=False)


def column(name: str, content: Any) -> dict[str, np.ndarray]:
    """Return a table of one row, as Ray Data takes it from a function, with an object."""
    cells = np.empty(1, object)
    cells[0] = Box(content)
    return {name: cells}


class Reader:
    """Read the pictures of chunks; Ray calls it in any process.

    Args:
        description: of the model.
        folder: the current folder of the first process.
    """

    def __init__(self, description: Description, folder: Path) -> None:
        self._reading = description.reading
        self._folder = folder

    def __call__(self, batch: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Yield for each `chunk` its pictures, in `items`; see `read_chunk`."""
        _enter(self._folder)
        for chunk in batch["chunk"]:
            for items in read_chunk(chunk.content, self._reading):
                yield column("items", items)


class Actor:
    """A worker in a process of its own.

    An error is part of its answers: those that Ray sees are of processes that ended.

    Args:
        args: the verb's flags.
        description: of the model.
        folder: the current folder of the first process.
        threads: see `Worker`.
    """

    def __init__(
        self, args: argparse.Namespace, description: Description, folder: Path, threads: int
    ) -> None:
        _enter(folder)
        self._worker: Worker | Failure
        try:
            self._worker = Worker(args, description, threads)
        except Exception as error:
            self._worker = _failure(error)

    def __call__(self, batch: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Yield for each list of `items` the table of their results, in `rows`, or a `Failure`."""
        for items in batch["items"]:
            yield column("rows", self._rows(items.content))

    def _rows(self, items: Any) -> "pa.Table | Failure":
        if isinstance(self._worker, Failure):
            return self._worker
        try:
            return self._worker(items)
        except Exception as error:
            return _failure(error)


def _enter(folder: Path) -> None:
    """Make relative paths those of the first process, where its folder is on this machine too."""
    if folder.is_dir():
        os.chdir(folder)


def rows_of(answer: "pa.Table | Failure") -> "pa.Table":
    """Return the table that an actor has answered.

    Raises:
        SoloFamilyError: an error of the actor that a user can fix.
        RuntimeError: another one.
    """
    if not isinstance(answer, Failure):
        return answer
    if answer.is_told:
        raise SoloFamilyError(answer.text)
    raise RuntimeError(f"A worker has met an error:\n{answer.text}")
