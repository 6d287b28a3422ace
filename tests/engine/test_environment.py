"""Machines as they are: a run works on them, or says in one line what it needs."""

import atexit
import errno
import fcntl
import importlib
import io
import itertools
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from detectron2.utils.collect_env import collect_env_info

from solo_family.engine.main import main as train_net

from ..coco_folder import CocoFolder, noise, rectangle, run_cfg
from ..forked import Forked, fail
from ..namespaces import mounting


def nobody() -> None:
    """A user id without a name, as of `docker run -u 12345`, without a home."""
    # Which lie where this user may not read, on the machine of a test that root runs.
    collect_env_info()
    for name in (
        "torch.utils.tensorboard",
        "pycocotools.cocoeval",
        "detectron2.checkpoint.c2_model_loading",
    ):
        importlib.import_module(name)
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        os.environ.pop(name, None)
    os.environ["HOME"] = "/nonexistent"
    os.setgid(12345)
    os.setuid(12345)


def no_temporary_folder() -> None:
    tempfile.tempdir = None
    folders = ["/nonexistent", "/proc"]
    pytest.MonkeyPatch().setattr(tempfile, "_candidate_tempdir_list", lambda: folders)


def few_files(count: int) -> None:
    """So many as a program has that began with three files: those of the tests' own don't count."""
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    limit = count + max(0, highest - 8)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def few_processes() -> None:
    nobody()
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))


def ascii_only() -> None:
    os.environ["LC_ALL"] = "C"
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(encoding="ascii")


def little_memory_to_share() -> None:
    from solo_family.data.loading import batch_loader

    def refuse(count: int, size: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    pytest.MonkeyPatch().setattr(batch_loader, "SharedSlots", refuse)


def jumping_clock() -> None:
    """A clock that is set by an hour, back and forth, whenever it is looked at."""
    real, jumps = time.time, itertools.cycle([0.0, 3600.0, -3600.0])
    time.time = lambda: real() + next(jumps)


def together(*changes: Callable[[], None]) -> None:
    for change in changes:
        change()


MACHINES: dict[str, Callable[[], None]] = {
    "a user without a name": nobody,
    "no temporary folder": no_temporary_folder,
    "64 open files": partial(few_files, 64),
    "24 open files": partial(few_files, 24),
    "an ASCII terminal": ascii_only,
    "no memory to share": little_memory_to_share,
    "no locks": partial(fail, fcntl, "flock", errno.ENOLCK),
    "a drive that can't be told to write at once": partial(fail, os, "fsync", errno.EINVAL),
    "a clock that jumps": jumping_clock,
}
# What lacks several things at once stands for those by themselves, which take as long each.
FAST = {
    "64 open files, no temporary folder": ("64 open files", "no temporary folder"),
    "24 open files": ("24 open files",),
    "the others": tuple(name for name in MACHINES if "files" not in name and "folder" not in name),
}
ALONE = [name for name in MACHINES if name not in FAST]


def words_in(root: Path, *opts: Any) -> list[Any]:
    """Returns the words of a run on a small dataset, with an evaluation and eight workers."""
    folder = CocoFolder(root / "dätä", {1: "cät", 2: "dog"})
    for index in range(4):
        folder.add(f"{index}ü.png", noise(48, 64, seed=index), [rectangle(5, 8, 20, 24)])
    dataset = folder.write()
    opts = ("DATALOADER.NUM_WORKERS", 8, "SOLVER.MAX_ITER", 2, *opts)
    cfg = run_cfg(dataset, root / "run", *opts, test=dataset)
    (root / "config.yaml").write_text(cfg.dump(), encoding="utf-8")
    return ["--config-file", root / "config.yaml"]


@pytest.mark.parametrize(
    "machine", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in ALONE)]
)
def test_a_run_works_on_it(machine: str) -> None:
    # The user last, who may do less.
    names = sorted(FAST.get(machine, (machine,)), key="a user without a name".__eq__)
    change = partial(together, *(MACHINES[name] for name in names))
    # Not below pytest's folder, which is its user's alone.
    root = Path(tempfile.mkdtemp(prefix="solo_family_"))
    try:
        words = words_in(root)
        for path in (root, *root.rglob("*")):
            path.chmod(0o777)
        with Forked(train_net, words, root, change) as run:
            assert run.status() == 0, run.printed
        assert (root / "run" / "model_final.pth").is_file()
        assert "Traceback" not in run.printed
    finally:
        shutil.rmtree(root)


def remove(folder: Path) -> None:
    """Has the output folder removed in the middle of a run."""
    from solo_family.engine.hooks import EndOnSignal

    original = EndOnSignal.before_step

    def before_step(self: EndOnSignal) -> None:
        original(self)
        if self.trainer.iter == 1:
            shutil.rmtree(folder)

    EndOnSignal.before_step = before_step


@pytest.mark.slow
def test_an_output_folder_that_is_gone_is_made_again(tmp_path: Path) -> None:
    words = words_in(tmp_path, "SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 3)
    with Forked(train_net, words, tmp_path, partial(remove, tmp_path / "run")) as run:
        assert run.status() == 0, run.printed
    assert f"{tmp_path}/run was deleted during the run; it is created again." in run.printed
    assert (tmp_path / "run" / "model_0000002.pth").is_file()


@pytest.mark.slow
def test_results_that_find_no_room_are_one_line_and_not_torn(tmp_path: Path) -> None:
    words = words_in(tmp_path, "MODEL.SOLOV2.SCORE_THR", 0.0, "MODEL.SOLOV2.MASK_THR", 0.0)
    with Forked(train_net, words, tmp_path) as run:
        assert run.status() == 0, run.printed
    inference = tmp_path / "run" / "inference"
    inference.rename(tmp_path / "whole")
    inference.mkdir()
    again = [*words, "--eval-only", "MODEL.WEIGHTS", tmp_path / "run" / "model_final.pth"]
    again += ["MODEL.INFERENCE.OPTIMIZE", "off"]  # as evaluations during training
    # A page of memory, of which each of the files needs the most part.
    small = mounting(str(inference), "size=4k")

    def look() -> None:
        """Keeps a copy of what is written there, which only this process sees."""
        small()
        atexit.register(shutil.copytree, inference, tmp_path / "copy")

    with Forked(partial(run_and_exit, train_net), again, tmp_path, look) as run:
        assert "No space left on device. Free space on that disk" in run.error()
    for path in (tmp_path / "copy").iterdir():
        assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes(), path


def run_and_exit(main: Callable[[list[str]], int], words: list[str]) -> int:
    """Runs a command, and what is registered for the end of a process, which a fork leaves out."""
    status = main(words)
    atexit._run_exitfuncs()
    return status


def test_no_more_processes_are_one_line(tmp_path: Path) -> None:
    root = Path(tempfile.mkdtemp(prefix="solo_family_"))
    try:
        words = words_in(root)
        for path in (root, *root.rglob("*")):
            path.chmod(0o777)
        with Forked(train_net, words, root, few_processes) as run:
            assert "ulimit -u" in run.error()
    finally:
        shutil.rmtree(root)
