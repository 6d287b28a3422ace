"""Write videos whose frames have one size and one rate, from frames that may have neither.

H W of a frame.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from .writers import video_writer


class FrameWriter:
    """Write a video's drawn frames; use it as a context manager.

    A frame of another size than the first is fitted into that, with black borders. Where the rate
    of the frames changes, some are repeated or left out, so that each is shown at its time.

    Args:
        path: of the video.
        fps: its frames per second.

    Raises:
        DataError: see `video_writer`.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._fps = fps
        self._size: tuple[int, int] | None = None
        self._written = 0
        self._last: np.ndarray | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._size is not None:
            self._opened.__exit__(kind, error, traceback)

    def write(self, image: np.ndarray, seconds: float | None) -> None:
        """Write a frame.

        Args:
            image: uint8 [H, W, 3], BGR.
            seconds: since the first frame; None writes it right after the one before.
        """
        if self._size is None:
            self._size = (image.shape[1], image.shape[0])
            self._opened = video_writer(self._path, self._fps, self._size)
            self._writer = self._opened.__enter__()
        place = self._written if seconds is None else round(seconds * self._fps)
        # One frame too early or late is a matter of rounding.
        while self._last is not None and self._written < place - 1:
            self._put(self._last)
        self._last = fitted(image, self._size)
        if self._written <= place + 1:
            self._put(self._last)

    def _put(self, image: np.ndarray) -> None:
        self._writer.write(image)
        self._written += 1


def fitted(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture scaled to fit a size, in its middle on black.

    Args:
        image: uint8 [H, W, 3].
        size: width and height.

    Returns:
        uint8 [height, width, 3]; the image itself if it has this size.
    """
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    scale = min(size[0] / width, size[1] / height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    return canvas
