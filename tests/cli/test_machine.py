"""What the doctor says of a machine before a run does."""

import errno
import fcntl
import os
import resource
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from solo_family.cli import machine
from solo_family.cli.machine import machine_findings

from ..forked import Forked, fail


def lacks(folder: Path) -> dict[str, str]:
    return {name: lack for name, _, lack in machine_findings(folder) if lack}


def test_nothing_lacks_here(tmp_path: Path) -> None:
    assert lacks(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def report(words: list[str]) -> int:
    for name, lack in lacks(Path(words[0])).items():
        print(f"{name}: {lack}")
    return 0


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))


def little_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def no_temporary_folder() -> None:
    tempfile.tempdir = None
    folders = ["/nonexistent"]
    pytest.MonkeyPatch().setattr(tempfile, "_candidate_tempdir_list", lambda: folders)


def short_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))


def few_addresses() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (7 * 2**30, 7 * 2**30))


def several_gpus() -> None:
    torch.cuda.device_count = lambda: 2
    machine._NCCL_BYTES = 2**60


@pytest.mark.parametrize(
    ("before", "name"),
    [
        (few_files, "open files: each worker needs 4"),
        (little_memory, "shared memory: workers send batches as bytes"),
        (no_temporary_folder, "temporary folder: several processes can't be started"),
        (short_files, "size of files: checkpoints may not fit"),
        (few_addresses, "addresses: ulimit -v allows"),
        (partial(fail, fcntl, "flock", errno.ENOLCK), "a file stands for a lock"),
        (partial(fail, os, "replace", errno.EPERM), "runs write their checkpoints so"),
        (several_gpus, "/dev/shm: NCCL needs it"),
    ],
)
def test_what_lacks_is_named(tmp_path: Path, before: Callable[[], None], name: str) -> None:
    with Forked(report, [tmp_path], tmp_path, partial(before)) as run:
        assert run.status() == 0, run.printed
    assert name in run.printed
