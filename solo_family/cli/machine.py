"""Checks of what a run needs besides libraries: processes, memory, files and the encoding."""

import locale
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from .. import heap
from ..data.loading.batch_loader import BatchLoader
from ..data.loading.shared_slots import SharedSlots
from ..engine.lock import can_lock, why_not_renamed
from ..errors import first_line
from ..starting import few_addresses
from ..threads import description

_FILES_PER_WORKER = 4
_ENOUGH_FILES = 128
_NCCL_BYTES = 256 * 2**20
_CHECKPOINT_BYTES = 2**30  # of the largest models here, with momentum
_SECONDS = 60.0


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        name: what was checked.
        found: the state of the machine.
        lack: what does not work, and how to fix it; "" if everything works.
    """

    name: str
    found: str
    lack: str = ""


def machine_findings(folder: Path) -> Iterator[Finding]:
    """Check the machine.

    Args:
        folder: an existing folder, in which runs would write.
    """
    yield Finding("threads", description())
    yield Finding("freed memory", heap.description())
    yield _workers()
    yield _shared_memory()
    yield _open_files()
    yield _addresses()
    yield _file_size()
    yield _files(folder)
    yield _temporary_folder()
    yield _letters()
    if torch.cuda.device_count() > 1:
        yield _shared_memory_of_several_gpus()


class _Squares:
    def __getitem__(self, key: int) -> torch.Tensor:
        return torch.tensor(key**2)


def _workers() -> Finding:
    name = "worker processes"
    lack = "images are loaded in the training process: see ulimit -u, and DATALOADER.NUM_WORKERS"
    try:
        loader = BatchLoader(_Squares(), [[3], [4]], num_workers=1, timeout=_SECONDS)
        numbers = [int(batch[0]) for batch in loader]
    except Exception as error:
        return Finding(name, first_line(error), lack)
    return Finding(
        name, "a process was started and loaded batches", "" if numbers == [9, 16] else lack
    )


def _shared_memory() -> Finding:
    name = "shared memory"
    try:
        slots = SharedSlots(1, 2**20)
        slots.write(0, [memoryview(b"0")], [0])
    except (OSError, ValueError) as error:
        return Finding(
            name, first_line(error), "workers send batches as bytes, which takes longer: ulimit -v"
        )
    return Finding(name, "processes can share memory; /dev/shm is not used")


def _open_files() -> Finding:
    name = "open files"
    limit = _limit("RLIMIT_NOFILE")
    if limit is None:
        return Finding(name, "no limit")
    few = limit < _ENOUGH_FILES
    lack = f"each worker needs {_FILES_PER_WORKER}: allow more with ulimit -n" if few else ""
    return Finding(name, f"{limit} are allowed", lack)


def _addresses() -> Finding:
    warning = few_addresses()
    return Finding("addresses", "few" if warning else "enough are allowed", warning)


def _file_size() -> Finding:
    name = "size of files"
    limit = _limit("RLIMIT_FSIZE")
    if limit is None:
        return Finding(name, "no limit")
    lack = "checkpoints may not fit: ulimit -f unlimited" if limit < _CHECKPOINT_BYTES else ""
    return Finding(name, f"{limit / 2**20:.0f} MB", lack)


def _limit(name: str) -> int | None:
    """Return a limit of this process; None where there is none."""
    try:
        import resource  # Windows has none
    except ImportError:
        return None
    limit = resource.getrlimit(getattr(resource, name))[0]
    return limit if limit >= 0 else None


def _files(folder: Path) -> Finding:
    name = f"files in {folder}"
    try:
        reason, has_locks = why_not_renamed(folder), can_lock(folder)
    except OSError as error:
        return Finding(name, first_line(error), "set OUTPUT_DIR to a folder that you own")
    if reason:
        lack = "runs write their checkpoints so: set OUTPUT_DIR to a folder on another disk"
        return Finding(name, f"can't be renamed: {reason}", lack)
    lack = "" if has_locks else "a file stands for a lock; one of another machine's run stays"
    return Finding(name, f"renamed, and {'locked' if has_locks else 'not locked'}", lack)


def _temporary_folder() -> Finding:
    name = "temporary folder"
    try:
        return Finding(name, tempfile.gettempdir())
    except OSError as error:
        lack = "several processes can't be started: set TMPDIR to a folder that you may write to"
        return Finding(name, first_line(error), lack)


def _letters() -> Finding:
    encoding = locale.getpreferredencoding(False)
    lack = ""
    if encoding.lower().replace("-", "") != "utf8" or sys.getfilesystemencoding() != "utf-8":
        lack = "files with non-ASCII names may not be found: set LC_ALL=C.UTF-8"
    return Finding("encoding", encoding, lack)


def _shared_memory_of_several_gpus() -> Finding:
    name = "/dev/shm"
    lack = "NCCL needs it between GPUs: docker run --shm-size 1g, or NCCL_SHM_DISABLE=1"
    try:
        size = shutil.disk_usage("/dev/shm").total
    except OSError as error:
        return Finding(name, first_line(error), lack)
    return Finding(name, f"{size / 2**20:.0f} MB", lack if size < _NCCL_BYTES else "")
