"""Locating the images that an annotation file names, even if a tool wrote other paths."""

import os
import re
from collections.abc import Iterable
from pathlib import PurePath
from urllib.parse import unquote, urlsplit

from detectron2.utils.file_io import PathManager

from ...errors import DataError, first_of
from .text_files import files_below, folded

Paths = dict[str, list[str]]

# The environment variable that lets a trusted json name images outside the image folder.
OUTSIDE = "SOLO_FAMILY_ALLOW_OUTSIDE"
# The prefix that Label Studio adds to the names of uploaded files.
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")


class ImageFiles:
    r"""The images of a folder, looked up by the names that a json gives them.

    A name that is not a file in the folder is tried with `/` in place of `\`. After that its last
    part is looked up, with and without Label Studio's prefix, and with `%20` as a blank and the
    like: it matches if the folder and its subfolders have exactly one file of that name. If they
    have none, capitals and the two ways to write accents are taken for the same.

    Args:
        folder: the folder that names are relative to; "" if the names are complete paths.
        source: the file that has the names, for messages.

    Attributes:
        otherwise: maps the names that were matched in such a way to the paths of the images.
    """

    def __init__(self, folder: str, source: str) -> None:
        self._folder = folder
        self._source = source
        self._by_last_part: tuple[Paths, Paths] | None = None
        self.otherwise: dict[str, str] = {}

    def find(self, name: str) -> str | None:
        """Return the path of an image; None if there is none.

        Raises:
            DataError: the name leads out of the folder without permission, and its last part
                matches no image in the folder.
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
            # Raises an error, unless the environment variable permits the path.
            path_inside(self._folder, name, self._source)
        return found

    def clashes(self, found: Iterable[tuple[str, str | None]]) -> dict[str, list[str]]:
        r"""Return the files that were found under several names, at most one of them in full.

        They are probably one of several images: `a/1.jpg` and `b/1.jpg` are not both `1.jpg`. Names
        that differ in `\` and `/` alone are one name.

        Args:
            found: names, each with the path that `find` has returned.

        Returns:
            Maps the path to the names.
        """
        if not self.otherwise:
            return {}
        names: dict[str, dict[str, str]] = {}
        for name, path in found:
            if path is not None:
                names.setdefault(path, {}).setdefault(name.replace("\\", "/"), name)
        return {path: list(same.values()) for path, same in names.items() if len(same) > 1}

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
        exact, alike = self._by_last_part
        plain = (last, _UPLOADED.sub("", last, count=1))
        candidates = (*plain, *map(unquote, plain))
        for paths in (
            *(exact.get(candidate, []) for candidate in candidates),
            *(alike.get(folded(candidate), []) for candidate in candidates),
        ):
            if len(paths) == 1:
                return paths[0]
        return None


def _by_last_part(folder: str) -> tuple[Paths, Paths]:
    """Return the files of a folder by their names without folders, and by these folded."""
    exact: Paths = {}
    alike: Paths = {}
    for path in files_below(folder):
        exact.setdefault(path.name, []).append(str(path))
        alike.setdefault(folded(path.name), []).append(str(path))
    return exact, alike


def _is_file(path: str) -> bool:
    try:
        return PathManager.isfile(path) if "://" in path else os.path.isfile(path)
    except ValueError:  # the name has a null character
        return False


def _leads_out(name: str) -> bool:
    return os.path.isabs(name) or os.pardir in PurePath(name).parts


def path_inside(folder: str, name: str, source: str) -> str:
    """Join a folder and a relative path that a file names.

    Args:
        folder: the folder that the path must stay in.
        name: the relative path.
        source: the file that names it, for messages.

    Raises:
        DataError: the path leads out of the folder, and `SOLO_FAMILY_ALLOW_OUTSIDE` is not 1.
    """
    if _leads_out(name) and os.environ.get(OUTSIDE) != "1":
        raise DataError(
            f"{source} names {name}, which is outside {folder}. Name the folder that all images "
            f"are in, or, for a file that you trust, set the environment variable {OUTSIDE}=1."
        )
    return os.path.join(folder, name)


def find_all(folder: str, names: Iterable[str], source: str) -> tuple[list[str], list[str]]:
    """Locate all images of an annotation file.

    Args:
        folder: the folder that names are relative to.
        names: of the images.
        source: the annotation file, for messages.

    Returns:
        The path of each image; and a list with one notice if some were matched under another name.

    Raises:
        DataError: images are missing, their names lead out of the folder, or several names match
            one file.
    """
    files = ImageFiles(folder, source)
    given = list(names)
    paths = [files.find(name) for name in given]
    missing = [name for name, path in zip(given, paths) if path is None]
    if missing:
        raise DataError(
            f"{source} names {len(missing)} images of {len(given)} that are not in {folder}: "
            f"{first_of(missing, 3)}. Name the folder that 'file_name' is relative to, or a folder "
            "in which the file name of each image, without its folders, is unique."
        )
    clashes = files.clashes(zip(given, paths))
    if clashes:
        path, together = next(iter(clashes.items()))
        raise DataError(
            f"{source} names different images, {' and '.join(together[:2])}, and {folder} has one "
            f"file for them, {os.path.relpath(path, folder)}. Which of them it is can't be told: "
            "put each image there under the name that the json gives it."
        )
    notices = []
    if files.otherwise:
        name, path = next(iter(files.otherwise.items()))
        found = os.path.relpath(path, folder)
        notices.append(f"{len(files.otherwise)} x 'file_name' ({name} as {found})")
    return [path for path in paths if path is not None], notices
