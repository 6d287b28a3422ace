"""Finds the pictures that an annotation file names, also where a tool names them otherwise."""

import os
import re
from collections.abc import Iterable
from pathlib import PurePath
from urllib.parse import unquote, urlsplit

from detectron2.utils.file_io import PathManager

from ...errors import DataError

# A trusted json may name images anywhere.
OUTSIDE = "SOLO_FAMILY_ALLOW_OUTSIDE"
# Label Studio puts this before the names of files that are uploaded.
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")


class ImageFiles:
    r"""The pictures of a folder, by the names that a json gives them.

    A name that is no file in the folder is tried with `/` for `\`, and then by its last part alone,
    as it is and without Label Studio's prefix, if the folder and those in it have one such file.

    Args:
        folder: that names are relative to; "" for paths that code gave, which are as they are.
        source: the file that gives the names, for messages.

    Attributes:
        otherwise: the names that were found so, and what was found.
    """

    def __init__(self, folder: str, source: str) -> None:
        self._folder = folder
        self._source = source
        self._by_last_part: dict[str, list[str]] | None = None
        self.otherwise: dict[str, str] = {}

    def find(self, name: str) -> str | None:
        """Return the path of a picture; None where there is none.

        Raises:
            DataError: the name leads out of the folder, where it must not lead, and no picture in
                the folder has its last part.
        """
        if not self._folder:
            return name if _is_file(name) else None
        inside = not _leads_out(name)
        if inside or os.environ.get(OUTSIDE) == "1":
            path = os.path.join(self._folder, name)
            if _is_file(path):
                return path
        found = self._find_otherwise(name)
        if found is not None:
            self.otherwise[name] = found
        elif not inside:
            # Raises, unless the environment allows it.
            path_inside(self._folder, name, self._source)
        return found

    def _find_otherwise(self, name: str) -> str | None:
        if "\0" in name:
            return None
        turned = name.replace("\\", "/")
        path = os.path.join(self._folder, turned)
        if turned != name and not _leads_out(turned) and _is_file(path):
            return path
        if "://" in turned:
            turned = unquote(urlsplit(turned).path)
        last = turned.rpartition("/")[2]
        if self._by_last_part is None:
            self._by_last_part = _by_last_part(self._folder)
        for candidate in (last, _UPLOADED.sub("", last, count=1)):
            paths = self._by_last_part.get(candidate, [])
            if len(paths) == 1:
                return paths[0]
        return None


def _by_last_part(folder: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            found.setdefault(name, []).append(os.path.join(root, name))
    return found


def _is_file(path: str) -> bool:
    try:
        return PathManager.isfile(path) if "://" in path else os.path.isfile(path)
    except ValueError:  # a zero in the name
        return False


def _leads_out(name: str) -> bool:
    return os.path.isabs(name) or os.pardir in PurePath(name).parts


def path_inside(folder: str, name: str, source: str) -> str:
    """Join a path that a file gives to the folder that it is relative to.

    Raises:
        DataError: it leads out of the folder, and `SOLO_FAMILY_ALLOW_OUTSIDE` is not 1.
    """
    if _leads_out(name) and os.environ.get(OUTSIDE) != "1":
        raise DataError(
            f"{source} names {name}, which is outside {folder}. Name the folder that all images "
            f"are in, or, for a file that you trust, set the environment variable {OUTSIDE}=1."
        )
    return os.path.join(folder, name)


def find_all(folder: str, names: Iterable[str], source: str) -> tuple[list[str], list[str]]:
    """Find all pictures of a file.

    Returns:
        A path for each name, where it should be if it isn't there; and a notice, in a list, if
        some were found otherwise than under their names.

    Raises:
        DataError: some are not there, or lead out of the folder.
    """
    files = ImageFiles(folder, source)
    given = list(names)
    paths = [files.find(name) for name in given]
    missing = [name for name, path in zip(given, paths) if path is None]
    if missing:
        rest = len(missing) - 3
        listed = ", ".join(missing[:3]) + (f" and {rest} more" if rest > 0 else "")
        raise DataError(
            f"{source} names {len(missing)} images of {len(given)} that are not in {folder}: "
            f"{listed}. Name the folder that 'file_name' is relative to, or one in which each "
            "image's own name, without folders, stands once."
        )
    notices = []
    if files.otherwise:
        name, path = next(iter(files.otherwise.items()))
        found = os.path.relpath(path, folder)
        notices.append(f"{len(files.otherwise)} x 'file_name' ({name} as {found})")
    return [path for path in paths if path is not None], notices
