"""The base of the formats in which results are saved."""

import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Self

import cv2

from ..errors import ConfigError, DataError
from ..files import replacing
from ..pictures.formats import WRITTEN
from .picture import Classes, Picture
from .units import PixelSize


@dataclass(frozen=True)
class Options:
    """How results are saved.

    Attributes:
        polygon_tolerance: the most that polygons deviate from the mask, in pixels; None: see
            `outlines.outline`.
        pixel_size: of a pixel, for areas in physical units.
        tracks: whether the instances of videos have numbers.
    """

    polygon_tolerance: float | None = None
    pixel_size: PixelSize | None = None
    tracks: bool = False


class Saver:
    """Save pictures' results in one format; use it as a context manager.

    A file with the results of all pictures gets its name at the end, unless there was an error.

    Args:
        output: the folder, which exists.
        classes: of the model.
        options: see `Options`.

    Attributes:
        flag: of `demo`, which asks for the format.
    """

    format: ClassVar[str]
    # The attributes of `Picture` of which one is needed.
    needs: ClassVar[tuple[str, ...]] = ("instances",)

    def __init__(self, output: Path, classes: Classes, options: Options) -> None:
        self.output = output
        self.classes = classes
        self.options = options
        self.flag = f"--save {self.format}"
        self._files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def add(self, picture: Picture) -> None:
        """Save a picture's results.

        Raises:
            ConfigError: the model predicts nothing that the format can have.
            DataError: a file can't be written.
        """
        if all(getattr(picture, name) is None for name in self.needs):
            raise ConfigError(
                f"{self.flag} needs instances, but this model predicts "
                f"{_predicted(picture)}. Save one of: pictures, label-map, panoptic."
            )
        try:
            self.write(picture)
        except OSError as error:
            raise DataError(
                f"{picture.file_name}: its {self.format} results can't be written to "
                f"{self.output} ({error.strerror or error}). Check the folder's permissions and "
                "the free space."
            ) from error

    def write(self, picture: Picture) -> None:
        """Write what belongs to a picture."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write what is known only after the last picture."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.finish()
        except BaseException as failed:
            self._files.__exit__(type(failed), failed, failed.__traceback__)
            raise
        self._files.__exit__(kind, error, traceback)

    def open(self, path: Path) -> IO[str]:
        """Open a text file that is renamed to `path` at the end unless there was an error."""
        temporary = self._files.enter_context(replacing(path))
        return self._files.enter_context(open(temporary, "w", encoding="utf-8", newline=""))


def _predicted(picture: Picture) -> str:
    return "panoptic segments" if picture.segments is not None else "a class for every pixel"


@contextmanager
def written(path: Path) -> Iterator[IO[str]]:
    """Yield a text file that is renamed to `path` at the end unless there was an error."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        yield file


def write_png(path: Path, values: Any) -> None:
    """Write a PNG: uint8 or uint16 [H, W], or uint8 [H, W, 3 or 4], in BGR or BGRA.

    Raises:
        DataError: it can't be written.
    """
    with replacing(path) as temporary:
        if not cv2.imwrite(str(temporary), values):
            raise DataError(
                f"{path}: can't be written; check the folder's permissions and the free space"
            )


def refuse_existing(path: Path) -> None:
    """Refuse to replace a file that a person may have corrected.

    Raises:
        ConfigError: the file exists.
    """
    if path.exists():
        raise ConfigError(
            f"{path} exists, and may have been corrected by hand. Name another output folder, or "
            "remove it."
        )


def copy_picture(picture: Picture, folder: Path) -> str:
    """Copy a picture's file to a folder, or write a PNG of one that has none, or a rare format.

    Returns:
        The file's name, `picture.name` with a suffix.
    """
    source = picture.path
    # Labelling tools can't open other formats.
    if source is None or source.suffix.lower() not in WRITTEN:
        write_png(folder / f"{picture.name}.png", picture.image)
        return f"{picture.name}.png"
    target = folder / f"{picture.name}{source.suffix}"
    if not (target.exists() and target.samefile(source)):
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    return target.name


class JsonList:
    """A list in a json file, which is written item by item.

    Args:
        file: open for writing.
    """

    def __init__(self, file: IO[str]) -> None:
        self.file = file
        self._count = 0
        file.write("[")

    def append(self, item: Any) -> None:
        """Write an item."""
        self.file.write(("," if self._count else "") + "\n" + json.dumps(item))
        self._count += 1

    def close(self) -> None:
        """Write the end of the list."""
        self.file.write("\n]" if self._count else "]")

    def __len__(self) -> int:
        return self._count


def csv_writer(file: IO[str], columns: list[str]) -> "csv.DictWriter[str]":
    """Return a writer of a table whose header is written."""
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    return writer
