"""What a mapper does with images that can't be read: it stops, or goes on without them."""

import logging

from ...errors import DataError

logger = logging.getLogger(__name__)


class BadImages:
    """Counts them, if training may go on (`DATALOADER.SKIP_BAD_IMAGES`).

    Args:
        skip: go on.
        num_images: of the dataset; when as many can't be read, there is nothing to go on with.
    """

    def __init__(self, skip: bool, num_images: int) -> None:
        self.skip = skip
        self._num_images = num_images
        self._files: set[str] = set()
        self._num_skipped = 0  # since the last image that could be read

    def add(self, path: str, error: Exception) -> None:
        """Take note of one.

        Raises:
            DataError: images may not be skipped, or none of them can be read.
        """
        message = " ".join(str(error).split())
        if not self.skip:
            raise DataError(
                f"{message}. Fix or remove the file; training goes on without such images "
                "with --skip-bad-images."
            ) from error
        self._files.add(path)
        if len(self._files) == self._num_images:
            raise DataError(
                f"None of the {self._num_images} training images can be read, the last because "
                f"{message}. Fix the files."
            )
        self._num_skipped += 1
        logger.warning(f"skipped: {message}")

    def take_count(self) -> int:
        """Return how many there were since it was last asked."""
        count, self._num_skipped = self._num_skipped, 0
        return count
