"""Files that are complete or not there: written under a temporary name, then renamed."""

import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
