"""Saving of results in several formats at once."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..errors import ConfigError, DataError
from .coco import CocoDataset, CocoResults, CocoRleDataset, CocoVideo
from .cutouts import Cutouts
from .geojson import GeoJson
from .journal import Journal, Known
from .label_map import LabelMap
from .labelme import Labelme
from .names import Names
from .panoptic import Panoptic
from .picture import Classes, Picture, predicted
from .saver import Options, Saver
from .table import Table
from .yolo import Yolo

SAVERS: dict[str, type[Saver]] = {
    saver.format: saver
    for saver in (
        CocoDataset,
        CocoRleDataset,
        CocoResults,
        CocoVideo,
        Labelme,
        Yolo,
        LabelMap,
        GeoJson,
        Panoptic,
        Cutouts,
        Table,
    )
}

# The drawn pictures, which no saver writes.
PICTURES = "pictures"


def check_formats(formats: Sequence[str]) -> None:
    """Check the names of formats.

    Raises:
        ConfigError: there is no such format, or none is named.
    """
    known = [PICTURES, *SAVERS]
    for name in formats or ("",):
        if name not in known:
            raise ConfigError(f"The format is {name!r}; save as one of: {', '.join(known)}.")


class ResultWriter:
    """Save the results of pictures, one after another; use it as a context manager.

    Args:
        savers: one per format.
        root: the folder to which the names of pictures in files are relative.
        journal: keeps the predictions, for a run that goes on with this one if that is interrupted.
    """

    def __init__(
        self, savers: Sequence[Saver], root: Path | None = None, journal: Journal | None = None
    ) -> None:
        self._savers = savers
        self._root = root
        self._journal = journal
        self._names = Names(() if journal is None else journal.names)
        self._open = ExitStack()

    @property
    def saves(self) -> bool:
        """Whether there is any format."""
        return bool(self._savers)

    def __enter__(self) -> Self:
        for saver in self._savers:
            self._open.enter_context(saver)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, traceback)
        if self._journal is not None:
            self._journal.close(is_complete=kind is None)

    def known(self, where: dict[str, Any]) -> Known | None:
        """Return what an interrupted run has predicted for a picture or frame; see `add`."""
        return None if self._journal is None else self._journal.find(where)

    def add(
        self,
        predictions: dict[str, Any],
        image: np.ndarray,
        image_id: int,
        *,
        name: str | None = None,
        known: Known | None = None,
        keeps: bool = True,
        **where: Any,
    ) -> None:
        """Save the results of a picture.

        Args:
            predictions: detectron2's dict, on the CPU.
            image: uint8 [H, W, 3], BGR.
            image_id: of the picture, different from all others.
            name: of a picture that is not a file of its own, as a page or a download.
            known: what is saved in place of the predictions.
            keeps: whether the journal may have it.
            where: `file_name`, of the picture or video, for a video `frame`, from 0, and for a page
                of several `page`, from 1.

        Raises:
            ConfigError: a format can't have what the model predicts.
            DataError: a file can't be written.
        """
        if not self._savers:
            return
        found = predicted(predictions) if known is None else known.found
        source = Path(where["file_name"] if name is None else name)
        frame = where.get("frame")
        stem = source.stem if frame is None else f"{source.stem}_{frame:06d}"
        is_file = name is None and source.is_file()
        own = None if self._journal is None else self._journal.name_of(where)
        own = own or self._names.new(stem)
        if self._journal is not None and known is None and keeps:
            # First, because an interruption may leave only some of the files.
            self._journal.append(where, own, found)
        picture = Picture(
            image_id=image_id,
            name=own,
            file_name=self._relative(source) if name is None else name,
            path=source if frame is None and is_file else None,
            where=where,
            image=image,
            is_known=known is not None,
            **found,
        )
        for saver in self._savers:
            saver.add(picture)

    def _relative(self, source: Path) -> str:
        if self._root is None:
            return source.name
        return Path(os.path.relpath(source, self._root)).as_posix()


def common_folder(paths: Sequence[Path]) -> Path | None:
    """Return the folder that all files are in, directly or in subfolders; None if there is none."""
    try:
        folders = [os.path.dirname(os.path.abspath(path)) for path in paths]
        return Path(os.path.commonpath(folders)) if folders else None
    except ValueError:  # on two drives
        return None


def make_savers(
    formats: Sequence[str], output: Path, classes: Classes, options: Options
) -> list[Saver]:
    """Return the savers of some formats, all of `SAVERS`, that write to a folder, which exists.

    Raises:
        DataError: the folder can't be written to.
    """
    try:
        return [SAVERS[name](output, classes, options) for name in dict.fromkeys(formats)]
    except OSError as error:
        raise DataError(
            f"{output}: can't write results to this folder ({error.strerror or error})"
        ) from error
