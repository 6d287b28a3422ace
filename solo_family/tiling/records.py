"""A file of records that are appended one by one, of which a killed process leaves whole ones."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Before each record: its length in bytes, and its checksum.
_HEAD = struct.Struct("<QI")


class RecordFile:
    """Records in a file, in the order in which they were appended.

    What a killed process has left unfinished at the end is dropped.

    Args:
        path: of the file, which `remove` deletes.
        kind: the first line of files of this kind.
        key: what the records depend on: a file of another key is begun anew.

    Attributes:
        places: of the records that the file had.
    """

    def __init__(self, path: Path, kind: str, key: str) -> None:
        self.path = path
        self.places: list[int] = []
        beginning = f"{kind}\n{key}\n".encode()
        end = 0
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(beginning)) == beginning:
                    place = end = file.tell()
                    for _ in _records(file):
                        self.places.append(place)
                        place = end = file.tell()
        self._file = path.open("r+b" if self.places else "w+b")
        if self.places:
            self._file.truncate(end)
        else:
            self._file.write(beginning)
            self._file.flush()

    def read(self, place: int) -> bytes:
        """Return the record at a place."""
        self._file.seek(place)
        return next(_records(self._file))

    def append(self, record: bytes) -> None:
        """Write a record at the end."""
        self._file.seek(0, 2)
        self._file.write(_HEAD.pack(len(record), zlib.crc32(record)) + record)
        self._file.flush()

    def close(self) -> None:
        """Leave the file for another run."""
        self._file.close()

    def remove(self) -> None:
        """Delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)


def _records(file: BinaryIO) -> Iterator[bytes]:
    """Yield the records up to the first that is not whole."""
    while True:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return
        length, checksum = _HEAD.unpack(head)
        record = file.read(length)
        if len(record) < length or zlib.crc32(record) != checksum:
            return
        yield record
