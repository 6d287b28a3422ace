"""What is read of a dataset's files, once per process and again when one of them has changed."""

import os
from collections.abc import Callable, Hashable, Iterable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from .text_files import files_below

Arguments = ParamSpec("Arguments")
Content = TypeVar("Content")


def read_once(
    places: Callable[Arguments, Iterable[str | Path]],
) -> Callable[[Callable[Arguments, Content]], Callable[Arguments, Content]]:
    """Return a decorator of a function that reads files: it is called again when one has changed.

    Training, evaluation and checks read a dataset in turn. In a notebook its files may be corrected
    between two of them.

    Args:
        places: returns the folders and files that the function reads, from its arguments.
    """

    def decorate(function: Callable[Arguments, Content]) -> Callable[Arguments, Content]:
        kept: dict[Hashable, tuple[int, Content]] = {}

        @wraps(function)
        def read(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Content:
            key = (args, tuple(kwargs.items()))
            stamp = _stamp(places(*args, **kwargs))
            if key not in kept or kept[key][0] != stamp:
                kept.pop(key, None)  # frees the old content before the new one is read
                kept[key] = (stamp, function(*args, **kwargs))
            return kept[key][1]

        return read

    return decorate


def _stamp(places: Iterable[str | Path]) -> int:
    """Return a number that changes when a file is added, removed or written."""
    found = []
    for place in places:
        for file in files_below(place) if os.path.isdir(place) else [Path(place)]:
            try:
                status = os.stat(file)
            except (OSError, ValueError):
                continue  # the reader says what is wrong with it
            found.append((str(file), status.st_mtime_ns, status.st_size))
    return hash(tuple(found))
