"""Faults of the machine, each explained in one line: no memory, a full disk, a dead process."""

import errno
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from detectron2.config import CfgNode

from .config.rules import get_key
from .errors import OutOfMemoryError, SoloFamilyError, TrainingError, first_line
from .registry import METHODS

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Disks and network drives that fail, or come back read-only; not all systems have each.
_BROKEN = tuple(
    getattr(errno, name)
    for name in ("EIO", "EREMOTEIO", "EROFS", "ESTALE", "ENXIO")
    if hasattr(errno, name)
)
_NO_MORE = (errno.EMFILE, errno.ENFILE, errno.EAGAIN)
# Messages of torch on a CPU and on a GPU, of C++ in general, of OpenCV, of ONNX Runtime, and of
# cuBLAS and cuDNN.
NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|bad_alloc|bad allocation|Insufficient memory|"
    r"Failed to allocate memory|ALLOC(ATION)?_FAILED|could not create a (primitive|memory object)$",
    re.I,
)
_DEAD_WORKER = re.compile(r"DataLoader worker \(pid\D*([\d, ]+)\) (.+)")
# Messages of gloo and NCCL in the processes that remain when one has died.
_DEAD_PROCESS = re.compile(
    r"Connection closed by peer|Connection reset by peer|Broken pipe|remote process exited|"
    r"NCCL communicator was aborted"
)
_SMALLER = (
    "Use smaller images, or let the model work at a smaller size: lower INPUT.MIN_SIZE_TEST of its "
    "config, or --size of export."
)


@contextmanager
def explained(cfg: CfgNode | None = None, *, training: bool = False) -> Iterator[None]:
    """Replace errors that the machine causes by this package's errors.

    The function is a context manager, and can also decorate functions.

    Args:
        cfg: the configuration, for the message about memory; None if there is none.
        training: whether the body trains, so that the run can be resumed.

    Raises:
        SoloFamilyError: see `explain`.
    """
    try:
        yield
    except SoloFamilyError:
        raise
    except Exception as error:
        ours = explain(error, cfg, training=training)
        if ours is None:
            raise
        try:
            raise ours from error
        finally:
            del ours  # its traceback refers to this frame; the cycle would keep all tensors alive


def explain(
    error: BaseException, cfg: CfgNode | None = None, *, training: bool = False
) -> SoloFamilyError | None:
    """Return this package's error for a library's error, if the machine has caused it.

    A full disk or a dead process leads to further errors while a run ends. So the causes and the
    contexts of `error` are examined, too, and if one of this package's errors is among them, it is
    returned.

    Args:
        error: any exception.
        cfg: the configuration, for the message about memory; None if there is none.
        training: whether the error occurred in a training.

    Returns:
        The error, or None if the machine is not the cause.
    """
    causes = _causes(error)
    for cause in reversed(causes):
        if isinstance(cause, SoloFamilyError):
            return cause
    for cause in causes:
        ours = _explain_one(cause, cfg, training)
        if ours is not None:
            return ours
    return None


def full_disk(error: BaseException) -> OSError | None:
    """Return the OSError for no space, exceeded quota or too large file that has caused `error`."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return cause
    return None


def _causes(error: BaseException) -> list[BaseException]:
    """Return the error, its cause or context, the cause's own cause or context, and so on."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes


def _explain_one(
    error: BaseException, cfg: CfgNode | None, training: bool
) -> SoloFamilyError | None:
    text = str(error)
    if isinstance(error, OSError) and error.errno in _FULL:
        place = error.filename or (cfg.OUTPUT_DIR if cfg is not None else "the output")
        return TrainingError(
            f"Can't write {place}: {error.strerror}. Free space on that disk, or write to another."
        )
    if isinstance(error, OSError) and error.errno in _BROKEN:
        return TrainingError(
            f"A disk or network drive failed: {error.strerror}, {error.filename or 'at a file'}. "
            "See to it (dmesg, df, mount)."
        )
    if isinstance(error, OSError) and error.errno in _NO_MORE:
        return TrainingError(
            f"The system allows no more files or processes ({error.strerror}). Raise the limits "
            "with ulimit -n and ulimit -u (in Docker --ulimit nofile=... and --pids-limit), or "
            "lower DATALOADER.NUM_WORKERS."
        )
    if isinstance(error, MemoryError) or NO_MEMORY.search(text):
        return OutOfMemoryError(f"Out of memory ({first_line(error)}). {_less(cfg, training)}")
    worker = _DEAD_WORKER.search(text)
    if worker:
        return _worker_died(worker[1].strip(), worker[2].strip(" ."))
    if isinstance(error, RuntimeError | OSError) and _DEAD_PROCESS.search(text):
        return TrainingError(
            f"Another process of this run died ({first_line(error)}). The reason is in its own "
            "log, log.txt.rank*, or in the log of its machine. --resume goes on from the last "
            "checkpoint."
        )
    return None


def dead_worker(pids: Sequence[int], status: int | None) -> TrainingError:
    """Return the error for worker processes that have died.

    Args:
        pids: their process ids.
        status: the exit status of the first, negative for a signal; None if it is unknown.
    """
    how = "exited unexpectedly"
    if status is not None and status < 0:
        how = f"is killed by signal: {signal_name(-status)}"
    elif status:
        how += f" with status {status}"
    return _worker_died(", ".join(map(str, pids)), how)


def _worker_died(pids: str, how: str) -> TrainingError:
    return TrainingError(
        f"A worker process of the data loader, {pids}, died ({how}). If it was killed, the machine "
        "has probably run out of memory: lower DATALOADER.NUM_WORKERS (0 loads in the training "
        "process), or add memory. --resume goes on from the last checkpoint."
    )


def signal_name(number: int) -> str:
    """Return the system's name of a signal, for instance Killed or Terminated."""
    try:
        return signal.strsignal(number) or str(number)
    except ValueError:
        return str(number)


def no_more_processes(error: OSError) -> str:
    """Return the warning of a run that loads its images itself, because it can't start workers."""
    return (
        f"No worker process of the data loader can be started ({error.strerror or error}), so "
        "images are loaded in the training process, which is slower. Raise the limits with "
        "ulimit -n and ulimit -u, or set DATALOADER.NUM_WORKERS 0 to start no workers."
    )


def _less(cfg: CfgNode | None, training: bool) -> str:
    """Return the advice on which settings lower the use of memory, with their values."""
    if cfg is None:
        return _SMALLER
    keys = ["INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"]
    if training:
        keys = ["SOLVER.IMS_PER_BATCH", "INPUT.MIN_SIZE_TRAIN", "INPUT.MAX_SIZE_TRAIN"]
    elif cfg.MODEL.META_ARCHITECTURE in METHODS:
        keys += METHODS[cfg.MODEL.META_ARCHITECTURE].memory_keys
    values = ", ".join(f"{key} (now {get_key(cfg, key)})" for key in keys)
    if not training:
        return f"Lower {values}."
    switches = ("SOLVER.ACTIVATION_CHECKPOINTING", "SOLVER.AMP.ENABLED")
    off = [f"{key} True" for key in switches if not get_key(cfg, key)]
    return f"Lower {values}{', or set ' if off else ''}{' or '.join(off)}."
