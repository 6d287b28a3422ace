"""One run per output folder."""

import fcntl
import os
from pathlib import Path
from typing import IO, Self

from ..errors import TrainingError

_NAME = ".running"


class OutputLock:
    """Holds an output folder for this process; the system lets go of it however the process ends.

    It is released at the end of a `with` block. The data loader's workers, which may live a little
    longer than a process that was killed, do not hold it.

    Args:
        folder: `OUTPUT_DIR`; it is made if it is missing.

    Raises:
        TrainingError: another run is alive in it, or it can't be written to.
    """

    def __init__(self, folder: str) -> None:
        path = Path(folder) / _NAME
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = open(path, "a+", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise TrainingError(
                f"OUTPUT_DIR {folder} can't be written to ({error.strerror}). "
                "Set OUTPUT_DIR to a folder that can."
            ) from error
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            raise TrainingError(
                f"OUTPUT_DIR {folder}: another run (process {owner}) is writing to it. "
                "Set OUTPUT_DIR to another folder, or stop that run."
            ) from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Lets another run have the folder."""
        self._file.close()
