"""Checkpoints that are complete or not there."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager

from ..files import replacing


class AtomicCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer; a file, and the note of the last one, appears whole or not."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.path_manager: Any = _AtomicPathManager(PathManager)


class _AtomicPathManager:
    """A PathManager whose written files are renamed into place when they are complete."""

    def __init__(self, path_manager: Any) -> None:
        self._path_manager = path_manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._path_manager, name)

    def open(self, path: str, mode: str = "r", **options: Any) -> AbstractContextManager[IO[Any]]:
        if mode not in ("w", "wb"):
            return self._path_manager.open(path, mode, **options)
        return _written_whole(self._path_manager.get_local_path(path), mode)


@contextmanager
def _written_whole(path: str, mode: str) -> Iterator[IO[Any]]:
    with replacing(path) as temporary, open(temporary, mode) as file:
        yield file
        file.flush()
        # Before the rename: after a power failure the name must not point at unwritten data.
        os.fsync(file.fileno())
