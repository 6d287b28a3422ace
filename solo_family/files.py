"""Files that are complete or not there: written under a temporary name, then renamed."""

import errno
import glob
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from filelock import FileLock, Timeout

_LOCK = ".lock"
# What drives say that can't be told to write at once.
NOT_SYNCED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary name beside `path`, renamed to it at the end unless there was an error.

    Whatever stops the writing, a file of the name `path` is the old one or the new one, whole.
    """
    path = Path(path)
    # The suffix stays last, because OpenCV takes the format from it.
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class WholeFiles:
    """detectron2's PathManager, but files that it opens to write appear when they are complete.

    Args:
        path_manager: detectron2's.
    """

    def __init__(self, path_manager: Any) -> None:
        self._path_manager = path_manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._path_manager, name)

    def open(self, path: str, mode: str = "r", **options: Any) -> AbstractContextManager[IO[Any]]:
        """Opens a file; see `open`."""
        if mode not in ("w", "wb"):
            return self._path_manager.open(path, mode, **options)
        return self.written(self._path_manager.get_local_path(path), mode)

    @contextmanager
    def written(self, path: str, mode: str) -> Iterator[IO[Any]]:
        """Gives a file to write that is renamed to `path` at the end."""
        encoding = None if "b" in mode else "utf-8"
        with replacing(path) as temporary, open(temporary, mode, encoding=encoding) as file:
            yield file
            file.flush()
            # Before the rename: after a power failure the name must not point at unwritten data.
            try:
                os.fsync(file.fileno())
            except OSError as error:
                if error.errno not in NOT_SYNCED:
                    raise


@contextmanager
def whole_files_of(module: Any) -> Iterator[None]:
    """Within it, what a module of detectron2's writes appears when it is complete."""
    path_manager = module.PathManager
    module.PathManager = WholeFiles(path_manager)
    try:
        yield
    finally:
        module.PathManager = path_manager


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, renamed to `folder` at the end unless there was an error.

    Until then it lies beside `folder`. What killed processes have left there is removed.

    Args:
        folder: of which the folder above exists; it is not there, or empty.
    """
    prefix = f".{folder.name}.partial-"
    for left in folder.parent.glob(f"{glob.escape(prefix)}*"):
        # A process that is alive holds the lock.
        with suppress(OSError, Timeout), FileLock(left / _LOCK, timeout=0):
            shutil.rmtree(left, ignore_errors=True)
    with (
        TemporaryDirectory(prefix=prefix, dir=folder.parent) as partial,
        FileLock(Path(partial, _LOCK)),
    ):
        build = Path(partial, folder.name)
        build.mkdir()
        yield build
        build.rename(folder)


def remove_unfinished(folder: str | os.PathLike[str]) -> None:
    """Removes what a killed process has left of files in `folder`, which none may be writing to."""
    for path in Path(folder).glob(".*.tmp*"):
        path.unlink(missing_ok=True)


def expand_path(path: str) -> str:
    """Returns `path` with `~` and environment variables replaced, so that configs can say $DATA."""
    return os.path.expandvars(os.path.expanduser(path))


def damaged_entry(path: str | os.PathLike[str]) -> str:
    """Returns the first entry of a zip file, as torch writes, that does not have its checksum.

    Returns:
        "" where all have it, and for other files. Entries that were written without one pass.

    Raises:
        OSError: the file can't be read.
    """
    if not zipfile.is_zipfile(path):
        return ""
    name = "list of contents"
    try:
        with zipfile.ZipFile(path) as file:
            for entry in file.infolist():
                name = entry.filename
                if entry.CRC:
                    with file.open(entry) as content:
                        while content.read(2**20):
                            pass
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError):
        return name
    return ""
