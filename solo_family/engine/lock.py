"""The lock that allows one run per output folder."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from ..errors import TrainingError

_NAME = ".running"


class OutputLock:
    """Lock an output folder for this process, until the end of the `with` block.

    The system releases the lock however the process ends. Workers of the data loader, which may
    outlive a killed process for a moment, do not hold it, because filelock closes its file in them.

    Args:
        folder: `OUTPUT_DIR`; it is created if it does not exist.

    Raises:
        TrainingError: another run uses the folder, or it can't be written to.
    """

    def __init__(self, folder: str) -> None:
        path = Path(folder) / _NAME
        self._lock = FileLock(path, timeout=0)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout as error:
            raise TrainingError(
                f"OUTPUT_DIR {folder}: another run (process {_owner(path)}) is writing to it. "
                "Set OUTPUT_DIR to another folder, or stop that run."
            ) from error
        except OSError as error:
            raise TrainingError(
                f"OUTPUT_DIR {folder} can't be written to ({error.strerror}). "
                "Set OUTPUT_DIR to a folder that you may write to."
            ) from error
        # For the message of another run; Windows lets nobody write to a locked file.
        with suppress(OSError):
            path.write_text(str(os.getpid()), encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Release the folder for another run."""
        self._lock.release()


def _owner(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() or "unknown"
    except (OSError, UnicodeDecodeError):
        return "unknown"
