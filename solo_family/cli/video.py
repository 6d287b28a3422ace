"""Read the frames of videos, streams and cameras.

H W of a frame.
"""

import logging
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..errors import DataError
from .source import Source

logger = logging.getLogger(__name__)

# FFmpeg's and OpenCV's own lines about what the one line of an error says.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# How long a stream may take to be opened and to send a frame, in ms.
_STREAM_LIMITS = [
    *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 20_000),
    *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, 20_000),
]
# Of the frames that a file announces, the share that estimates of its length may be wrong by.
_ESTIMATE = 0.05


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        image: uint8 [H, W, 3], BGR, upright. H and W may change within a video.
        seconds: since the first frame; None if that is unknown.
    """

    image: np.ndarray
    seconds: float | None


class Video:
    """The frames of a video file, a stream or a camera; use it as a context manager.

    Args:
        source: what to open.

    Attributes:
        size: width and height of the first frame.
        fps: frames per second, on average.
        expected_frames: what the file announces, for the progress display; None if unknown.
        missing: how many frames of a file could not be read, known at its end.

    Raises:
        DataError: it can't be opened or downloaded, or has no frames.
    """

    # Nearly always the rate of webcams that don't report theirs.
    DEFAULT_FPS = 30.0

    def __init__(self, source: Source) -> None:
        self._is_live = source.is_live
        self._file = None if source.is_live else source.file()
        path = source.address if self._file is None else str(self._file.__enter__())
        try:
            self._capture = self._open(source, path)
            is_read, self._first = self._capture.read()
            if not is_read:
                raise DataError(
                    f"{source}: no frame can be read. Check that it is a video, or that no other "
                    "program uses the camera."
                )
        except BaseException:
            self._leave()
            raise
        height, width = self._first.shape[:2]
        self.size = (width, height)
        self.fps: float = self._capture.get(cv2.CAP_PROP_FPS) or self.DEFAULT_FPS
        # Containers estimate it, and a camera has none.
        frames = 0 if source.is_live else int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.expected_frames: int | None = frames if frames > 0 else None
        self.missing = 0

    def _open(self, source: Source, path: str | None) -> cv2.VideoCapture:
        logs: Any = cv2.utils.logging
        level = logs.getLogLevel()
        logs.setLogLevel(0)
        try:
            if path is None:
                return cv2.VideoCapture(source.camera)
            if source.is_live:
                return cv2.VideoCapture(path, cv2.CAP_FFMPEG, _STREAM_LIMITS)
            capture = cv2.VideoCapture(path)
            # Phones store how they were held.
            capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
            return capture
        finally:
            logs.setLogLevel(level)

    def _leave(self) -> None:
        if self._file is not None:
            self._file.__exit__(None, None, None)

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()
        self._leave()

    def __iter__(self) -> Iterator[Frame]:
        """Yield each frame once."""
        is_read, image, count = True, self._first, 0
        start = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        while is_read:
            seconds = (self._capture.get(cv2.CAP_PROP_POS_MSEC) - start) / 1000
            is_known = not self._is_live and (seconds > 0 or not count)
            yield Frame(image, seconds if is_known else None)
            count += 1
            is_read, image = self._capture.read()
        announced = self.expected_frames or 0
        if announced - count > max(1, _ESTIMATE * announced):
            self.missing = announced - count
