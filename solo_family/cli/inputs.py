"""Find and read a tool's input: pictures, folders, globs, videos and a webcam."""

import glob
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ..data.loading.images import Reading, read_image
from ..data.loading.watchdog import TIMEOUT, Watchdog, watched
from ..errors import DataError
from ..pictures.formats import SUFFIXES

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({*SUFFIXES, ".gif"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})


@dataclass(frozen=True)
class Source:
    """One picture, one video, or (without a path) the webcam."""

    path: Path | None
    is_video: bool

    @property
    def name(self) -> str:
        """The file's path as text, or "webcam"."""
        return "webcam" if self.path is None else self.path.name

    def __str__(self) -> str:
        return "webcam" if self.path is None else str(self.path)


WEBCAM = Source(path=None, is_video=True)


def find_sources(patterns: Sequence[str]) -> tuple[list[Source], list[str]]:
    """Find the files that patterns name, each once, in the order given.

    Args:
        patterns: files, folders (their pictures, not those of subfolders) and quoted globs.

    Returns:
        The sources, and the patterns that match nothing.

    Raises:
        DataError: no pattern matches anything.
    """
    with Watchdog(TIMEOUT, "Looking for the input"):
        found = {pattern: _expand(pattern) for pattern in patterns}
    unmatched = [pattern for pattern, paths in found.items() if not paths]
    if len(unmatched) == len(found):
        raise DataError(f"no file matches {', '.join(unmatched)}: give files, folders or globs")
    paths = dict.fromkeys(path for matches in found.values() for path in matches)
    return [Source(path, _is_video(path)) for path in watched(paths, "A file", TIMEOUT)], unmatched


def read_picture(source: Source, reading: Reading) -> np.ndarray:
    """Read a picture, uint8 [H, W, C] of the reading's format.

    Raises:
        DataError: see `read_image`.
        TrainingError: reading it has taken longer than the timeout.
    """
    with Watchdog(TIMEOUT, f"Reading {source}"):
        return read_image(str(source.path), reading.image_format, reading)


def _expand(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    # Checked before globbing, because a file's own name may contain brackets.
    if path.exists():
        return [path]
    return [p for p in map(Path, sorted(glob.glob(str(path), recursive=True))) if p.is_file()]


def _is_video(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES or suffix in VIDEO_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    # Pillow is asked first, because OpenCV opens a picture as a video of one frame.
    try:
        Image.open(path).close()
    except UnidentifiedImageError:
        return cv2.VideoCapture(str(path)).isOpened()
    except OSError:
        pass
    return False


class Video:
    """The frames of a video file or the webcam; use it as a context manager.

    Args:
        source: what to open.

    Raises:
        DataError: it can't be opened, or has no frames.
    """

    # Nearly always the rate of webcams that don't report theirs.
    DEFAULT_FPS = 30.0

    def __init__(self, source: Source) -> None:
        self._capture = cv2.VideoCapture(0 if source.path is None else str(source.path))
        is_read, self._first = self._capture.read()
        if not is_read:
            raise DataError(
                f"{source}: no frame can be read. Check that it is a video, or that no other "
                "program uses the camera."
            )
        height, width = self._first.shape[:2]
        self.size = (width, height)
        self.fps: float = self._capture.get(cv2.CAP_PROP_FPS) or self.DEFAULT_FPS
        # For the progress display only: containers estimate it, and a camera has none.
        frames = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.expected_frames: int | None = frames if frames > 0 else None

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield each frame once: (H, W, 3) uint8, BGR."""
        is_read, frame = True, self._first
        while is_read:
            yield frame
            is_read, frame = self._capture.read()
