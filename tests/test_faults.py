"""Which of a library's errors are the machine's, and what is said of them."""

import errno
import os

import pytest

from solo_family.errors import ConfigError, OutOfMemoryError, SoloFamilyError, TrainingError
from solo_family.faults import explain, explained, full_disk

from .conftest import tiny_cfg
from .ops.test_gpu_memory import NO_GPU_MEMORY

# As torch 2.11, numpy 2.3, OpenCV 5.0 and ONNX Runtime 1.31 say it.
NO_MEMORY = [
    MemoryError(),
    MemoryError("Unable to allocate 400. MiB for an array with shape (419430400,)"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    *(RuntimeError(message) for message in NO_GPU_MEMORY),
    RuntimeError("std::bad_alloc"),
    RuntimeError("could not create a primitive"),
    Exception("error: (-4:Insufficient memory) Failed to allocate 900000000 bytes"),
    Exception("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bad allocation"),
]


@pytest.mark.parametrize("error", NO_MEMORY)
def test_every_librarys_want_of_memory_names_the_keys(error: Exception) -> None:
    ours = explain(error, tiny_cfg("SOLO"))
    assert isinstance(ours, OutOfMemoryError)
    for key in ("INPUT.MIN_SIZE_TEST (now 800)", "MODEL.SOLO.NMS_PRE (now 500)"):
        assert key in str(ours)
    assert "SOLVER.IMS_PER_BATCH (now 16)" in str(explain(error, tiny_cfg(), training=True))
    assert "--size of export" in str(explain(error))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_over_quota_and_too_large_are_a_full_disk(number: int) -> None:
    error = OSError(number, "No room", "file.txt")
    assert full_disk(error) is error
    assert str(explain(error)).startswith("Can't write file.txt: No room. Free space")
    assert full_disk(OSError(errno.EACCES, "Permission denied")) is None


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EROFS])
def test_a_drive_that_fails_is_named(number: int) -> None:
    error = OSError(number, os.strerror(number), "image.png")
    assert str(explain(error)).startswith(f"A disk or network drive failed: {os.strerror(number)}")
    assert "image.png" in str(explain(error))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "DataLoader worker (pid 12) is killed by signal: Killed. ",
            "A worker process of the data loader, 12, died (is killed by signal: Killed).",
        ),
        (
            "DataLoader worker (pid(s) 12, 13) exited unexpectedly",
            "A worker process of the data loader, 12, 13, died (exited unexpectedly).",
        ),
        (
            "[pair.cc:534] Connection closed by peer [127.0.0.1]:27434",
            "Another process of this run died ([pair.cc:534] Connection closed by peer",
        ),
    ],
)
def test_dead_processes_are_named(text: str, words: str) -> None:
    ours = explain(RuntimeError(text), training=True)
    assert isinstance(ours, TrainingError)
    assert str(ours).startswith(words)


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("shape mismatch"), OSError("no")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert explain(error) is None
    with pytest.raises(type(error)) as raised, explained():
        raise error
    assert raised.value is error


def test_what_followed_the_fault_does_not_hide_it() -> None:
    def end() -> None:
        try:
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as error:
                raise TrainingError("the checkpoint") from error
        finally:
            raise ValueError("I/O operation on closed file")

    with pytest.raises(TrainingError, match="the checkpoint"), explained():
        end()


def test_our_own_errors_pass() -> None:
    mistake: SoloFamilyError = ConfigError("out of memory is a word of this message")
    with pytest.raises(ConfigError) as raised, explained():
        raise mistake
    assert raised.value is mistake
