"""Files of datasets: those of a folder, and text that tools write beside pictures."""

import unicodedata
from pathlib import Path

from ...errors import DataError
from ...files import walk


def is_file(path: Path) -> bool:
    """Return whether there is a file; none has a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def exists(path: Path) -> bool:
    """Return whether there is a file or folder; see `is_file`."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def folded(name: str) -> str:
    """Return a file's name as systems agree on it: that of Windows and of macOS may be other.

    Windows and macOS take `A.JPG` for `a.jpg`, and macOS writes an accent as a character of its
    own, as do the archives that it makes.
    """
    return unicodedata.normalize("NFC", name).strip().casefold()


def files_below(folder: str | Path) -> list[Path]:
    """Return the files of a folder and its subfolders, sorted, as `demo` takes them.

    Links to folders are followed, and hidden files left out; see `walk`.
    """
    return sorted(place / name for place, names in walk(folder) for name in names)


def read_text(path: Path) -> str:
    """Return the content of a text file, without a byte-order mark.

    Raises:
        DataError: it can't be read, or is no text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{path} can't be read: {error.strerror}. Check its name and permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no text in UTF-8: its byte {error.start} is {error.object[error.start]}. "
            "Save it in UTF-8."
        ) from error


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, without blanks around them; see `read_text`."""
    return [line.strip() for line in read_text(path).split("\n")]
