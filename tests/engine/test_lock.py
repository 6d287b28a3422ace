"""One run per output folder: real processes, one of them killed."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from solo_family.engine.lock import OutputLock
from solo_family.errors import TrainingError

from ..coco_folder import run_cfg, small_dataset, write_cfg
from ..conftest import ROOT
from ..forked import Forked

HOLDER = """
import os, sys, time
from solo_family.engine.lock import OutputLock

lock = OutputLock(sys.argv[1])
if os.fork() == 0:  # as a worker of the data loader, which outlives it a little
    print(os.getpid(), flush=True)
    time.sleep(60)
    os._exit(0)
time.sleep(60)
"""


@pytest.mark.slow
def test_a_run_refuses_a_folder_in_which_another_is_alive(tmp_path: Path) -> None:
    cfg = run_cfg(small_dataset(tmp_path / "data").name, tmp_path / "run")
    config = write_cfg(tmp_path / "config.yaml", cfg)
    command = [sys.executable, str(ROOT / "train_net.py"), "--config-file", str(config)]
    with OutputLock(cfg.OUTPUT_DIR):
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 2
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert line == (
        f"error: OUTPUT_DIR {cfg.OUTPUT_DIR}: another run (process {os.getpid()}) is writing to "
        "it. Set OUTPUT_DIR to another folder, or stop that run."
    )
    assert "Traceback" not in process.stdout + process.stderr
    # Nothing of the other run's was touched.
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".running"]


def test_a_killed_run_holds_nothing_though_its_workers_live(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert holder.stdout is not None
    worker = int(holder.stdout.readline())
    try:
        with pytest.raises(TrainingError, match=rf"another run \(process {holder.pid}\)"):
            OutputLock(str(tmp_path))
        holder.kill()
        holder.wait()
        time.sleep(0.05)
        os.kill(worker, 0)  # it lives
        with OutputLock(str(tmp_path)):
            assert (tmp_path / ".running").read_text() == str(os.getpid())
    finally:
        os.kill(worker, signal.SIGKILL)
        holder.stdout.close()


def test_a_folder_that_cant_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(TrainingError, match=rf"OUTPUT_DIR {folder} can't be written to \("):
            OutputLock(str(folder))


def test_folders_are_made(tmp_path: Path) -> None:
    with OutputLock(str(tmp_path / "some" / "where")):
        assert (tmp_path / "some" / "where").is_dir()


def hold_without_locks(words: list[str]) -> int:
    lock = OutputLock(words[0])
    Path(words[0], "held").touch()
    time.sleep(60)
    lock.release()
    return 0


def test_without_locks_a_file_stands_for_one_until_its_owner_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    folder = tmp_path / "run"
    with Forked(hold_without_locks, [folder], tmp_path) as holder:
        holder.wait_for((folder / "held").is_file)
        with pytest.raises(TrainingError, match=rf"\(process {holder.pid}\).*killed on another"):
            OutputLock(str(folder))
    with OutputLock(str(folder)):
        assert (folder / ".running_without_locks").is_file()
    assert [path.name for path in folder.iterdir()] == ["held"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV])
def test_a_folder_in_which_nothing_is_renamed_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(TrainingError, match=r"can't be renamed there \([A-Z].+\), without"):
        OutputLock(str(tmp_path))
    monkeypatch.undo()
    OutputLock(str(tmp_path)).release()
