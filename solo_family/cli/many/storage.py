"""Pictures and folders in cloud storage, by pyarrow's file systems."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from ...errors import DataError, first_line
from ..inputs import IMAGE_SUFFIXES
from ..source import Source

# The scheme with the bucket, host and password; the path; options. All letters of a path stand for
# themselves, as in the programs of the stores, and unlike in an address of the web.
_ADDRESS = re.compile(r"(?s)([^:]+://[^/?]*)(.*?)(\?\w+=.*)?")
_GLOB = re.compile(r"[*\[]")


@dataclass(frozen=True)
class Stored(Source):
    """A picture in cloud storage.

    Attributes:
        address: that was given, with its options.
        key: of the picture in the file system of the address.
    """

    key: str = ""

    @property
    def name(self) -> str:
        """The file's name."""
        return PurePosixPath(self.key).name

    @property
    def file_name(self) -> str:
        """The address of the picture, without options and password."""
        return str(self)

    def __str__(self) -> str:
        assert self.address is not None
        return f"{self.address.partition('://')[0]}://{self.key}"

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Yield the path of a temporary copy.

        Raises:
            DataError: the picture can't be read.
        """
        assert self.address is not None
        with tempfile.TemporaryDirectory(prefix="solo_family-") as folder:
            path = Path(folder, self.name)
            try:
                file_system, _ = open_file_system(self.address)
                with file_system.open_input_stream(self.key) as stream:
                    path.write_bytes(stream.read())
            except OSError as error:
                raise DataError(f"{self}: can't be read: {first_line(error)}") from error
            yield path


def shown_address(address: str) -> str:
    """Return an address as it may be printed: without password and options."""
    beginning, path, _ = _parts(address)
    scheme, _, place = beginning.partition("://")
    return f"{scheme}://{place.rpartition('@')[2]}{path}"


@cache
def open_file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it.

    Args:
        address: as `s3://bucket/folder`, with pyarrow's options for the scheme.

    Raises:
        DataError: pyarrow knows no such file system, or can't open it.
    """
    import pyarrow as pa
    from pyarrow import fs

    beginning, path, options = _parts(address)
    try:
        return fs.FileSystem.from_uri(f"{beginning}{quote(path)}{options}")
    except (OSError, ValueError, ImportError, pa.ArrowException) as error:
        raise DataError(
            f"{shown_address(address)}: there is no such storage: {first_line(error)}"
        ) from error


def find_stored(address: str, recursive: bool) -> list[Source]:
    """Return the pictures that an address names: a file, a folder or a glob.

    Args:
        address: of a scheme that pyarrow knows; `*` and `[...]` of a glob match within a name, and
            `**` any folders.
        recursive: take the pictures of folders in a folder, too.

    Returns:
        The pictures in the order of their names, those of inner folders last; none if nothing
        matches.

    Raises:
        DataError: the storage can't be read.
    """
    import pyarrow as pa
    from pyarrow import fs

    base, pattern = _split_glob(address)
    file_system, path = open_file_system(base)
    try:
        info = file_system.get_file_info(path)
        if info.type == fs.FileType.File and not pattern:
            return [Stored(None, False, address=base, key=info.path)]
        if info.type != fs.FileType.Directory:
            return []
        selector = fs.FileSelector(path, recursive=recursive or bool(pattern))
        found = file_system.get_file_info(selector)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{shown_address(address)}: can't be listed: {first_line(error)}"
        ) from error
    files = [one.path for one in found if one.type == fs.FileType.File]
    inner = {file: PurePosixPath(file).relative_to(path).parts for file in files}
    if pattern:
        wanted = PurePosixPath(pattern).parts
        files = [file for file in files if _matches(inner[file], wanted)]
    else:
        files = [file for file in files if _is_shown_picture(inner[file])]
    files.sort(key=lambda file: _order(inner[file]))
    below = [Path() if pattern else Path(*inner[file][:-1]) for file in files]
    return [
        Stored(None, False, address=base, key=file, below=folder)
        for file, folder in zip(files, below)
    ]


def _split_glob(address: str) -> tuple[str, str]:
    """Return the address of the folder in which a glob begins, and the glob; "" for none."""
    beginning, path, options = _parts(address)
    names = path.split("/")
    first = next((i for i, name in enumerate(names) if _GLOB.search(name)), len(names))
    folder = "/".join(names[:first])
    return f"{beginning}{folder}{options}", "/".join(names[first:])


def _parts(address: str) -> tuple[str, str, str]:
    parts = _ADDRESS.fullmatch(address)
    assert parts is not None
    return parts[1], parts[2], parts[3] or ""


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns or not names:
        return not names and all(pattern == "**" for pattern in patterns)
    if names[0].startswith(".") and not patterns[0].startswith("."):
        return False  # hidden files are other programs' own
    if patterns[0] == "**":
        return _matches(names, patterns[1:]) or _matches(names[1:], patterns)
    return fnmatchcase(names[0], patterns[0]) and _matches(names[1:], patterns[1:])


def _is_shown_picture(names: Sequence[str]) -> bool:
    is_picture = PurePosixPath(names[-1]).suffix.lower() in IMAGE_SUFFIXES
    return is_picture and not any(name.startswith(".") for name in names)


def _order(names: Sequence[str]) -> list[tuple[bool, str]]:
    """Return a key that sorts a folder's own files before those of folders in it."""
    return [(place < len(names) - 1, name) for place, name in enumerate(names)]
