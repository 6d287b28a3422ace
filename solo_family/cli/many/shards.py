"""Rows of pictures, in shards: Parquet files of equally many pictures, each complete."""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...errors import DataError, first_line
from .folder import Folder

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = re.compile(r"(\d{5,})\.parquet")


class Shards:
    """The shards of a run.

    Shard S of size Z has the pictures S * Z + 1 to (S + 1) * Z, in this order; the last has what is
    left. It is written when all its rows have come, in whatever order.

    Args:
        folder: for the files, and for no others: many programs read it as one table.
        count: number of pictures.
        size: Z.
        metadata: of the files.

    Attributes:
        finished: the numbers of those that were written, by this run or one before it.
    """

    def __init__(self, folder: Folder, count: int, size: int, metadata: dict[bytes, bytes]) -> None:
        self._folder = folder
        self._count = count
        self._size = size
        self._metadata = metadata
        names = map(_NAME.fullmatch, folder.names())
        self.finished = {int(name[1]) for name in names if name is not None}
        # Of shards that are not finished: the rows that have come, and the pictures of them.
        self._waiting: defaultdict[int, list[pa.Table]] = defaultdict(list)
        self._known: defaultdict[int, set[int]] = defaultdict(set)

    def missing(self) -> list[int]:
        """Return the numbers of pictures, from 1, that neither are in a shard nor wait for one."""
        ids = []
        for shard in range(-(-self._count // self._size)):
            if shard not in self.finished:
                known = self._known[shard]
                ids += [image_id for image_id in self._range(shard) if image_id not in known]
        return ids

    def add(self, table: "pa.Table") -> int:
        """Add rows, and write the shards that have all of theirs now.

        Rows of a picture that has one are left out, since a process that ended after its last
        answer may have answered twice.

        Returns:
            The number of new rows.

        Raises:
            DataError: a file can't be written.
        """
        import pyarrow.compute as pc

        added = 0
        shards = pc.divide(pc.subtract(table["image_id"], 1), self._size)
        for shard in pc.unique(shards).to_pylist():
            if shard in self.finished:
                continue
            added += self._wait(shard, table.filter(pc.equal(shards, shard)))
            if len(self._known[shard]) == len(self._range(shard)):
                self._write(shard)
        return added

    def _wait(self, shard: int, rows: "pa.Table") -> int:
        import pyarrow as pa

        known = self._known[shard]
        ids = rows["image_id"].to_pylist()
        rows = rows.filter(pa.array([image_id not in known for image_id in ids], pa.bool_()))
        self._waiting[shard].append(rows)
        known.update(ids)
        return rows.num_rows

    def take_back_errors(self) -> None:
        """Let the pictures that have an error be done again: their shards are not finished then."""
        import pyarrow.compute as pc

        for shard in sorted(self.finished):
            if self._errors(shard).num_rows:
                rows = self._read(shard)
                self.finished.remove(shard)
                self._wait(shard, rows.filter(pc.is_null(rows["error"])))

    def tables(self) -> Iterator["pa.Table"]:
        """Yield the tables of all shards in their order; they are finished."""
        yield from map(self._read, sorted(self.finished))

    def errors(self) -> Iterator[tuple[str, str]]:
        """Yield the file name and the error of each picture without a result."""
        for shard in sorted(self.finished):
            table = self._errors(shard)
            yield from zip(table["file_name"].to_pylist(), table["error"].to_pylist())

    def _errors(self, shard: int) -> "pa.Table":
        import pyarrow.compute as pc

        table = self._read(shard, ["file_name", "error"])
        return table.filter(pc.is_valid(table["error"]))

    def _range(self, shard: int) -> range:
        first = shard * self._size
        return range(first + 1, min(first + self._size, self._count) + 1)

    def _name(self, shard: int) -> str:
        return f"{shard:05d}.parquet"

    def _write(self, shard: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.concat_tables(self._waiting.pop(shard)).sort_by("image_id")
        del self._known[shard]
        sink = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata(self._metadata), sink, compression="zstd")
        self._folder.write(self._name(shard), sink.getvalue())
        self.finished.add(shard)

    def _read(self, shard: int, columns: list[str] | None = None) -> "pa.Table":
        import pyarrow as pa
        import pyarrow.parquet as pq

        name = self._name(shard)
        with self._folder.open(name) as file:
            try:
                return pq.read_table(file, columns=columns)
            except (OSError, pa.ArrowException) as error:
                raise DataError(
                    f"{self._folder}: {name} can't be read ({first_line(error)}). Remove it, and "
                    "start again: its pictures are predicted again."
                ) from error
