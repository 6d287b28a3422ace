"""Read lists of inputs: text with a file, folder, glob or address per line."""

import codecs
import os
import re
from pathlib import Path

from ..errors import DataError, first_line
from .addresses import is_address

_CONTROL = re.compile(r"[\0-\x08\x0e-\x1f\x7f]")


def read_list(path: Path) -> list[str]:
    """Return the patterns that a text file has, one per line.

    Empty lines, and lines that begin with #, are left out. A path that does not exist from the
    current folder on is taken from the list's folder on.

    Raises:
        DataError: the file can't be read, or is no text.
    """
    path = Path(os.path.expanduser(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"@{path}: can't be read: {first_line(error)}") from error
    lines = lines_of(content)
    if lines is None:
        raise DataError(f"@{path}: this is no text; a list has a path per line, in UTF-8")
    return [_placed(line, path.parent) for line in lines]


def _placed(line: str, folder: Path) -> str:
    beside = folder / line
    if is_address(line) or os.path.exists(os.path.expanduser(line)) or not beside.exists():
        return line
    return str(beside)


def lines_of(content: bytes) -> list[str] | None:
    """Return the lines of text, without empty ones and comments; None if it is no text."""
    try:
        is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError:
        return None
    if _CONTROL.search(text):
        return None
    # Not splitlines: a name may have any of the letters that it splits at.
    lines = (line.strip() for line in re.split(r"\r\n|\r|\n", text))
    return [line for line in lines if line and not line.startswith("#")]
