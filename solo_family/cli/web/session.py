"""What one open page has: its pictures, what was found in them, and what of it is shown."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import numpy as np

from ...errors import SoloFamilyError, first_line
from ...predictor.predictions import Predictions, keep_confident
from ..inputs import VIDEO_SUFFIXES, split_pages
from ..source import Source
from .downloads import Saved, write_download
from .drawing import draw, for_screen, thumbnail
from .model import WebModel
from .rows import Row, rows_of
from .words import Choice, found_text, unexpected, with_own_name

# Of one page; more files are refused.
MOST_FILES = 100
_THUMBNAIL = 160


@dataclass(frozen=True)
class Shown:
    """What the page shows of a picture.

    Attributes:
        text: one line.
        image: uint8 [h, w, 3], RGB.
        rows: of the table.
    """

    text: str
    image: np.ndarray
    rows: list[Row]


@dataclass(frozen=True)
class Segmented:
    """A picture and what was found in it.

    Attributes:
        source: the session's own file.
        predictions: of `made_small`, of all scores.
        small: a small copy, uint8 [h, w, 3], RGB.
        size: (H, W).
    """

    source: Source
    predictions: Predictions
    small: np.ndarray
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """The file's name, for a page of several with its number."""
        return self.source.name


class Session:
    """The pictures of one open page, in a folder of its own.

    Args:
        model: predicts them.
        parent: the folder for its own one.

    Attributes:
        pictures: those that could be read, in the order of the page.
        problems: a line for each file that could not, and for each part of one.
    """

    def __init__(self, model: WebModel, parent: Path) -> None:
        self.pictures: list[Segmented] = []
        self.problems: list[str] = []
        self._model = model
        self._folder = Path(tempfile.mkdtemp(prefix="page-", dir=parent))
        self._files: dict[str, _File] = {}
        # The picture that was shown last, so that the threshold can be moved without reading it.
        self._shown: tuple[Segmented, np.ndarray] | None = None
        self._lock = Lock()
        self._is_closed = False

    def segment(self, uploads: Sequence[str]) -> Iterator[str]:
        """Predict the files that are new, and forget those that are no longer there.

        Args:
            uploads: paths of files.

        Yields:
            What is being done, before each new file.
        """
        given = list(dict.fromkeys(uploads))[:MOST_FILES]
        for gone in [upload for upload in self._files if upload not in given]:
            shutil.rmtree(self._files.pop(gone).folder, ignore_errors=True)
        new = [upload for upload in given if upload not in self._files]
        for number, upload in enumerate(new, start=1):
            place = "" if len(new) == 1 else f", {number} of {len(new)}"
            yield f"Segmenting {Path(upload).name}{place} …"
            if self._is_closed:
                return
            self._files[upload] = self._segmented(upload)
            self._collect(given)
        self._collect(given)
        if len(uploads) > MOST_FILES:
            self.problems.append(f"Only the first {MOST_FILES} files are segmented.")

    def show(self, index: int, choice: Choice) -> Shown:
        """Return what is to be seen of a picture.

        Raises:
            DataError: its file can't be read.
        """
        picture = self.pictures[index]
        predictions, rows = self._kept(picture, choice)
        metadata = self._model.model.metadata
        drawn = draw(self._screen(picture), predictions, rows, metadata, picture.size)
        text = f"{picture.name}: {found_text(predictions, rows, choice, picture.predictions)}"
        return Shown(text, np.ascontiguousarray(drawn[:, :, ::-1]), rows)

    def save(self, kind: str, choice: Choice) -> Path:
        """Write a file with the results of all pictures, which the next one replaces.

        Args:
            kind: one of `downloads.KINDS`.
            choice: what of the predictions it has.

        Raises:
            SoloFamilyError: it can't have what the model predicts, or can't be written.
        """
        with self._lock:
            folder = self._folder / "download"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            saved = (
                Saved(
                    picture.source, *self._kept(picture, choice), self._model.read(picture.source)
                )
                for picture in self.pictures
            )
            return write_download(kind, saved, folder, self._model)

    def close(self) -> None:
        """Remove its files; what it is doing ends after the picture that is being predicted."""
        self._is_closed = True
        self.pictures = []
        self._shown = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _segmented(self, upload: str) -> "_File":
        """Return the pictures of a file, and the lines about what could not be read."""
        own = _File(Path(tempfile.mkdtemp(dir=self._folder)))
        file = own.folder / Path(upload).name
        try:
            _take(upload, file)
            for source in split_pages([Source(file, is_video=False)], self._model.model.reading):
                found = self._model(source)
                shown = thumbnail(found.image, _THUMBNAIL)[:, :, ::-1]
                picture = Segmented(source, found.predictions, shown, found.image.shape[:2])
                if not (self.pictures or own.pictures):
                    self._shown = picture, for_screen(found.image)
                own.pictures.append(picture)
                own.problems.extend(with_own_name(line, file) for line in found.unread)
        except SoloFamilyError as error:
            own.problems.append(with_own_name(first_line(error), file))
        except Exception as error:
            if not self._is_closed:  # else its file was taken away
                own.problems.append(f"{file.name}: {unexpected(error)}")
        return own

    def _collect(self, given: Sequence[str]) -> None:
        files = [self._files[upload] for upload in given if upload in self._files]
        self.pictures = [picture for file in files for picture in file.pictures]
        self.problems = [line for file in files for line in file.problems]

    def _kept(self, picture: Segmented, choice: Choice) -> tuple[Predictions, list[Row]]:
        filters = self._model.filters
        if choice.labels:
            filters = replace(filters, labels=choice.labels)
        predictions = filters(keep_confident(picture.predictions, choice.threshold))
        return predictions, rows_of(predictions, self._model.model.metadata)

    def _screen(self, picture: Segmented) -> np.ndarray:
        """Return a picture in a size for the screen, BGR."""
        shown = self._shown
        if shown is None or shown[0] is not picture:
            shown = self._shown = picture, for_screen(self._model.read(picture.source))
        return shown[1]


@dataclass(frozen=True)
class _File:
    """What was found in a file.

    Attributes:
        folder: of the session's own copy.
        pictures: one, or a picture per page.
        problems: see `Session`.
    """

    folder: Path
    pictures: list[Segmented] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _take(upload: str, file: Path) -> None:
    """Make a copy of a file, which takes no room where it can be a link.

    Raises:
        SoloFamilyError: it is a video.
    """
    if file.suffix.lower() in VIDEO_SUFFIXES:
        raise SoloFamilyError(
            f"{file} is a video; this page takes pictures. demo --input reads it."
        )
    try:
        os.link(upload, file)
    except OSError:
        shutil.copyfile(upload, file)
