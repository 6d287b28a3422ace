"""How a mapper handles images that can't be read: it stops training, or skips them."""

import logging

from ...errors import DataError

logger = logging.getLogger(__name__)


class BadImages:
    """Count unreadable images, or raise an error at the first (`DATALOADER.SKIP_BAD_IMAGES`).

    Args:
        skip: count and skip unreadable images, instead of raising an error.
        num_images: size of the dataset; an error is raised when this many files are unreadable.
    """

    def __init__(self, skip: bool, num_images: int) -> None:
        self.skip = skip
        self._num_images = num_images
        self._files: set[str] = set()
        self._num_skipped = 0  # since the last image that could be read

    def add(self, path: str, error: Exception) -> None:
        """Record an unreadable image.

        Args:
            path: of the image.
            error: why it can't be read.

        Raises:
            DataError: images may not be skipped, or no image of the dataset can be read.
        """
        message = " ".join(str(error).split())
        if not self.skip:
            raise DataError(
                f"{message}. Fix or remove the file, or train without such images by adding "
                "--skip-bad-images."
            ) from error
        self._files.add(path)
        if len(self._files) == self._num_images:
            raise DataError(
                f"None of the {self._num_images} training images can be read. The error for the "
                f"last one: {message}. Fix the files."
            )
        self._num_skipped += 1
        logger.warning(f"Skipped an unreadable training image: {message}")

    def take_count(self) -> int:
        """Return the number of images skipped since the last call, and reset it."""
        count, self._num_skipped = self._num_skipped, 0
        return count
