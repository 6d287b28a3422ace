"""The lock that allows one run per output folder, and what its file system must support."""

import errno
import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, SoftFileLock, Timeout

from ..errors import TrainingError, first_line

logger = logging.getLogger(__name__)

_NAME = ".running"
# Where the system has no locks: filelock's file of this name says who is alive.
_SOFT_NAME = ".running_without_locks"
_HELD = (errno.EACCES, errno.EAGAIN)


class OutputLock:
    """Lock an output folder for this process, until the end of the `with` block.

    The system releases the lock however the process ends. Workers of the data loader, which may
    outlive a killed process for a moment, do not hold it, because filelock closes its file in them.

    Args:
        folder: `OUTPUT_DIR`; it is created if it does not exist.

    Raises:
        TrainingError: another run uses the folder, it can't be written to, or its file system does
            not rename files.
    """

    def __init__(self, folder: str) -> None:
        path = Path(folder) / _NAME
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            reason = why_not_renamed(path.parent)
            has_locks = can_lock(path.parent)
            if not has_locks:
                path = path.with_name(_SOFT_NAME)
                logger.warning(f"The file system of {folder} has no locks: {path} stands for one.")
            self._lock = FileLock(path, timeout=0) if has_locks else SoftFileLock(path, timeout=0)
            self._lock.acquire()
        except Timeout as error:
            elsewhere = "" if has_locks else f" If it was killed on another machine, remove {path}."
            raise TrainingError(
                f"OUTPUT_DIR {folder}: another run (process {_owner(path)}) is writing to it. "
                f"Set OUTPUT_DIR to another folder, or stop that run.{elsewhere}"
            ) from error
        except OSError as error:
            raise TrainingError(
                f"OUTPUT_DIR {folder} can't be written to ({error.strerror}). "
                "Set OUTPUT_DIR to a folder that you may write to."
            ) from error
        if reason:
            self.release()
            raise TrainingError(
                f"OUTPUT_DIR {folder}: files can't be renamed there ({reason}), without which no "
                "checkpoint is certain to be intact. Set OUTPUT_DIR to a folder on a disk of this "
                "machine, or on another network drive."
            )
        # For the message of another run; Windows lets nobody write to a locked file.
        if has_locks:
            with suppress(OSError):
                path.write_text(str(os.getpid()), encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Release the folder for another run."""
        self._lock.release()


def can_lock(folder: Path) -> bool:
    """Return whether the system locks files in a folder; some network drives don't.

    Raises:
        OSError: none can be written there.
    """
    try:
        import fcntl
    except ImportError:  # Windows locks in another way
        return True
    path = folder / f"{_NAME}.lock-{os.getpid()}"
    try:
        with open(path, "wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                return error.errno in _HELD
            return True
    finally:
        path.unlink(missing_ok=True)


def why_not_renamed(folder: Path) -> str:
    """Return why a file can't be renamed within a folder, over another; "" where it can.

    Raises:
        OSError: none can be written there.
    """
    paths = [folder / f"{_NAME}.{name}-{os.getpid()}" for name in ("old", "new")]
    try:
        for path in paths:
            path.write_bytes(b"0")
        try:
            paths[1].replace(paths[0])
        except OSError as error:
            return error.strerror or first_line(error)
        return ""
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def _owner(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return "unknown"
    number = re.match(r"\d+", text)  # filelock's own file goes on with the machine's name
    return number[0] if number else "unknown"
