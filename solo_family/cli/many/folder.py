"""The output folder, on a disk or in cloud storage, whose files appear complete or not at all."""

import os
import shutil
from contextlib import suppress
from copy import copy
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout

from ...engine.lock import can_lock
from ...errors import DataError, first_line
from ...files import sync
from ..addresses import is_address
from .storage import open_file_system, shown_address

if TYPE_CHECKING:
    import pyarrow as pa

_LOCK = ".predict_many.lock"
_UNFINISHED = ".tmp"
# The beginning of the name of a folder in it, whose files are being written.
DATASETS = ".datasets-"


class Folder:
    """A folder for the files of one run; use it as a context manager.

    Args:
        place: a path, or an address as `s3://bucket/folder`. It is created if it does not exist.

    Attributes:
        local: its path; None for one in cloud storage.

    Raises:
        DataError: it can't be written to.
    """

    def __init__(self, place: str) -> None:
        from pyarrow import fs

        self._place = shown_address(place) if is_address(place) else place
        self.local: Path | None = None
        self._fs: Any
        if is_address(place):
            self._fs, self._root = open_file_system(place)
            if isinstance(self._fs, fs.LocalFileSystem):
                self.local = Path(self._root)
        else:
            self.local = Path(os.path.expanduser(place)).absolute()
            self._fs, self._root = fs.LocalFileSystem(), str(self.local)
        self._lock: FileLock | None = None
        self._create()

    def _create(self) -> None:
        import pyarrow as pa

        try:
            self._fs.create_dir(self._root, recursive=True)
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{self}: can't write to this output folder ({first_line(error)})"
            ) from error

    def _make_lock(self) -> FileLock | None:
        """Return the lock; None where the system has none, as cloud storage and some drives."""
        if self.local is None or not can_lock(self.local):
            return None
        return FileLock(self.local / _LOCK, timeout=0)

    def __str__(self) -> str:
        return self._place

    def __enter__(self) -> Self:
        """Lock the folder where that is possible, and remove what a killed run has left.

        Raises:
            DataError: another run writes to it.
        """
        try:
            self._lock = self._make_lock()
            if self._lock is not None:
                self._lock.acquire()
        except Timeout as error:
            raise DataError(
                f"{self}: another predict-many is writing to it. Wait for its end, or name "
                "another --output."
            ) from error
        except OSError as error:
            raise self._not_written(_LOCK, error) from error
        self._remove_unfinished()
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()

    def inner(self, name: str) -> Self:
        """Return a folder in it, which is created if it does not exist, while this one is locked.

        Raises:
            DataError: it can't be written to.
        """
        inner = copy(self)
        inner._root, inner._place = f"{self._root}/{name}", f"{self}/{name}"
        inner.local = None if self.local is None else self.local / name
        inner._create()
        inner._remove_unfinished()
        return inner

    def names(self) -> list[str]:
        """Return the names of its files, sorted."""
        from pyarrow import fs

        found = self._fs.get_file_info(fs.FileSelector(self._root))
        files = [one.path for one in found if one.type == fs.FileType.File]
        return sorted(PurePosixPath(file).name for file in files)

    def open(self, name: str) -> Any:
        """Open a file for reading at any place, as pyarrow's `NativeFile`.

        Raises:
            DataError: it can't be read.
        """
        try:
            return self._fs.open_input_file(f"{self._root}/{name}")
        except OSError as error:
            raise DataError(f"{self}: {name} can't be read: {first_line(error)}") from error

    def write(self, name: str, content: "bytes | pa.Buffer") -> None:
        """Write a file, which replaces one of the same name.

        It gets its name when all of it is written: on a disk it is renamed, in a store of objects
        copied by the store itself.

        Raises:
            DataError: it can't be written.
        """
        path, unfinished = f"{self._root}/{name}", f"{self._root}/.{name}{_UNFINISHED}"
        try:
            with self._fs.open_output_stream(unfinished) as stream:
                stream.write(content)
            if self.local is not None:
                # Before the rename, or after a power failure the file could be empty.
                with open(self.local / f".{name}{_UNFINISHED}", "rb") as file:
                    sync(file.fileno())
            self._fs.move(unfinished, path)
        except OSError as error:
            with suppress(OSError):
                self._fs.delete_file(unfinished)
            raise self._not_written(name, error) from error

    def take(self, file: Path) -> None:
        """Move a file of this machine here; it appears as one of `write` does.

        Raises:
            DataError: it can't be written.
        """
        if self.local is None:
            import pyarrow as pa

            with pa.memory_map(str(file)) as content:
                self.write(file.name, content.read_buffer())
            return
        try:
            file.replace(self.local / file.name)
        except OSError as error:
            raise self._not_written(file.name, error) from error

    def _remove_unfinished(self) -> None:
        """Remove what a killed process has left."""
        for left in self.local.glob(f"{DATASETS}*") if self.local is not None else []:
            shutil.rmtree(left, ignore_errors=True)
        for name in self.names():
            if name.startswith(".") and name.endswith(_UNFINISHED):
                self._fs.delete_file(f"{self._root}/{name}")

    def _not_written(self, name: str, error: OSError) -> DataError:
        return DataError(
            f"{self}: {name} can't be written ({first_line(error)}). Check the folder's "
            "permissions and the free space."
        )
