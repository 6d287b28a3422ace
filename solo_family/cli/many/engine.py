"""Prediction of all pictures by an engine, also of those whose process has ended."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ...errors import DataError, SoloFamilyError
from ..batches import Item
from ..source import Source
from .rows import as_table, error_row
from .worker import Chunk

if TYPE_CHECKING:
    import pyarrow as pa

# Yields rows of the pictures of chunks. Those of a process that ended may be missing.
Engine = Callable[[Sequence[Chunk]], Iterable["pa.Table"]]
# So many pictures may end each process that predicts them; of more the machines are the cause.
MOST_FATAL = 20


def predict_all(engine: Engine, todo: Mapping[int, Source], size: int) -> Iterator["pa.Table"]:
    """Yield the rows of pictures, each once.

    Pictures whose process has ended again and again are predicted one by one. Those that end their
    process even so have an error.

    Args:
        engine: predicts.
        todo: the pictures by their position in the input.
        size: the number of pictures that are given to a process at once.

    Raises:
        SoloFamilyError: too many pictures end their process.
    """
    missing = dict(todo)
    for count in (size, 1):
        if missing:
            for table in engine(_chunks(missing, count)):
                for image_id in table["image_id"].to_pylist():
                    missing.pop(image_id, None)
                yield table
    if len(missing) > MOST_FATAL:
        raise SoloFamilyError(
            f"The workers ended while they predicted {len(missing)} pictures, also alone, for "
            f"instance {next(iter(missing.values()))}. Check the workers' memory, and Ray's logs "
            "(/tmp/ray/session_latest/logs). The same command goes on with what is missing."
        )
    if missing:
        yield as_table([_fatal(*one) for one in missing.items()])


def _fatal(image_id: int, source: Source) -> dict[str, object]:
    error = DataError(f"{source}: its process ended each time, perhaps for lack of memory")
    return error_row(Item(source, None, image_id, error=error))


def _chunks(todo: Mapping[int, Source], size: int) -> list[Chunk]:
    pictures = list(todo.items())
    return [pictures[start : start + size] for start in range(0, len(pictures), size)]
