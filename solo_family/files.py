"""Atomic writing of files: they are written under a temporary name, and then renamed."""

import errno
import glob
import os
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, BinaryIO

from filelock import FileLock, Timeout

_LOCK = ".lock"
# What drives say that can't be told to write at once.
NOT_SYNCED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path, which is renamed to `path` at the end unless there was an error.

    Whatever interrupts the writing, `path` is either the complete old file or the complete new one.
    Devices and pipes, such as /dev/stdout, are not replaced: they get what was written.

    Args:
        path: of the file to write; the temporary file is in the same folder.
    """
    path = Path(path)
    if _is_device(path):
        with TemporaryDirectory() as folder:
            content = Path(folder, path.name)
            yield content
            with open(content, "rb") as complete, _open_device(path) as device:
                shutil.copyfileobj(complete, device)
        return
    # The suffix stays at the end, because OpenCV infers the format from it.
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_device(path: Path) -> bool:
    """Return whether a path names no file of a disk, but what takes in what is written to it."""
    # A standard stream that is redirected to a file would look like that file.
    in_dev = os.path.abspath(path.parent) == "/dev"
    return path.exists() and not path.is_dir() and (in_dev or not path.is_file())


def _open_device(path: Path) -> BinaryIO:
    """Open a device; of a standard stream, at the place where what is printed goes on.

    Opened again, a file that a shell has redirected the stream to would lose what is in it.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            number = stream.fileno()
            same = os.path.samestat(os.fstat(number), path.stat())
        except (AttributeError, OSError, ValueError):  # no stream, a closed one, or none of a file
            continue
        if same:
            stream.flush()
            return os.fdopen(os.dup(number), "wb")
    return open(path, "wb")


def walk(
    folder: str | os.PathLike[str],
    leave_out: Path | None = None,
    onerror: Callable[[OSError], None] | None = None,
) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those below it, each once, with the sorted names of the files in it.

    Links to folders are followed. Hidden files and folders are other programs' own, as macOS's
    `._photo.jpg`, and left out.

    Args:
        folder: where to begin.
        leave_out: a folder below it, without links in its path, that is left out.
        onerror: is told of each folder that can't be read.
    """
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=onerror, followlinks=True):
        here, real = Path(place), os.path.realpath(place)
        if real in seen or (here != Path(folder) and Path(real) == leave_out):
            folders.clear()  # a link to a folder above, or what is left out
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield here, sorted(name for name in names if not name.startswith("."))


def sync(descriptor: int) -> None:
    """Write an open file to its disk at once, where the drive can be told to.

    Raises:
        OSError: it can't be written.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_SYNCED:
            raise


@contextmanager
def as_before_on_error(path: str | os.PathLike[str]) -> Iterator[None]:
    """On an error restore a small file as it was, or remove it if it did not exist."""
    path = Path(path)
    content = path.read_bytes() if path.is_file() else None
    try:
        yield
    except BaseException:
        if content is None:
            path.unlink(missing_ok=True)
        else:
            with replacing(path) as temporary:
                temporary.write_bytes(content)
        raise


class WholeFiles:
    """A wrapper of detectron2's PathManager that writes files atomically.

    Args:
        path_manager: detectron2's PathManager.
    """

    def __init__(self, path_manager: Any) -> None:
        self._path_manager = path_manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._path_manager, name)

    def open(self, path: str, mode: str = "r", **options: Any) -> AbstractContextManager[IO[Any]]:
        """Open a file, like the builtin `open`; modes "w" and "wb" write atomically."""
        if mode not in ("w", "wb"):
            return self._path_manager.open(path, mode, **options)
        return self.written(self._path_manager.get_local_path(path), mode)

    @contextmanager
    def written(self, path: str, mode: str) -> Iterator[IO[Any]]:
        """Yield a file open for writing, which is renamed to `path` at the end."""
        encoding = None if "b" in mode else "utf-8"
        with replacing(path) as temporary, open(temporary, mode, encoding=encoding) as file:
            yield file
            file.flush()
            # Sync before the rename, or after a power failure the file could be empty.
            sync(file.fileno())


@contextmanager
def whole_files_of(module: Any) -> Iterator[None]:
    """Let a module of detectron2's write its files atomically in the `with` block.

    Args:
        module: a module that has the name `PathManager`.
    """
    path_manager = module.PathManager
    module.PathManager = WholeFiles(path_manager)
    try:
        yield
    finally:
        module.PathManager = path_manager


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder, which is renamed to `folder` at the end unless there was an error.

    The temporary folder is beside `folder`. Those that killed processes have left are removed.

    Args:
        folder: the folder to make; its parent exists, and it does not exist or is empty.
    """
    prefix = f".{folder.name}.partial-"
    for left in folder.parent.glob(f"{glob.escape(prefix)}*"):
        # A living process holds the lock of its folder.
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
    """Remove temporary files that a killed process has left in a folder.

    Args:
        folder: no process may be writing to it.
    """
    for path in Path(folder).glob(".*.tmp*"):
        path.unlink(missing_ok=True)


def expand_path(path: str) -> str:
    """Return `path` with `~` and environment variables expanded, so that a config can use $DATA."""
    return os.path.expandvars(os.path.expanduser(path))


def damaged_entry(path: str | os.PathLike[str]) -> str:
    """Return the first damaged entry of a zip file, which is the format that torch writes.

    Returns:
        The name of the first entry whose checksum is wrong; "" if there is none, or if the file is
        not a zip file. Entries without a checksum are not checked.

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
