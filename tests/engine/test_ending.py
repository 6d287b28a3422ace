"""A run that is asked to end writes what it has, says so in one line, and is the same run later."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from solo_family.engine.hooks import EndOnSignal
from solo_family.engine.main import main as train_net
from solo_family.engine.trainer import Trainer

from ..coco_folder import run_cfg, small_dataset, write_cfg
from ..conftest import ROOT
from ..forked import LIMIT, Forked, alive, children
from .test_resume import assert_equal


def config(root: Path, *opts: Any, name: str = "run", test: bool = False) -> list[Any]:
    dataset = root / "data" / "instances.json"
    if not dataset.exists():
        small_dataset(root / "data")
    train = f"coco_json:{dataset}:{root}/data/images"
    cfg = run_cfg(train, root / name, *opts, test=train if test else "")
    return ["--config-file", write_cfg(root / f"{name}.yaml", cfg)]


def stopped_line(printed: str) -> str:
    assert "Traceback" not in printed, printed
    (line,) = [line for line in printed.splitlines() if line.startswith("Stopped ")]
    return line


FOR_EVER: list[Any] = ["SOLVER.MAX_ITER", 100_000, "SOLVER.CHECKPOINT_PERIOD", 100_000]


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
    ],
)
def test_one_signal_ends_a_run_with_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    words, output = config(tmp_path, *FOR_EVER, "DATALOADER.NUM_WORKERS", 1), tmp_path / "run"
    with Forked(train_net, words, tmp_path) as run:
        run.wait_for(lambda: "Starting training" in run.printed and children(run.pid))
        time.sleep(0.3)  # within an iteration, of which there are several a second
        for pid in (*children(run.pid), run.pid):  # to the whole group
            os.kill(pid, number)
        assert run.status() == 128 + number, run.printed
    line = stopped_line(run.printed)
    (path,) = output.glob("model_*.pth")
    iteration = torch.load(path, weights_only=True)["iteration"]
    assert line == (
        f"Stopped by {number.name}: iteration {iteration + 1} of 100000 is in {path}; the same "
        "command with --resume goes on from there."
    )
    assert (output / "last_checkpoint").read_text() == path.name


def ask_after(iteration: int) -> None:
    """Has the run of this process asked to end in the middle of an iteration, three times."""

    def before_step(self: EndOnSignal) -> None:
        original(self)
        if self.trainer.iter == iteration:
            os.kill(os.getpid(), signal.SIGTERM)

    original = EndOnSignal.before_step
    EndOnSignal.before_step = before_step


@pytest.mark.slow
def test_it_goes_on_as_if_it_had_not_been_asked(tmp_path: Path) -> None:
    opts = ["SOLVER.MAX_ITER", 6, "INPUT.RANDOM_FLIP", "horizontal"]
    with Forked(train_net, config(tmp_path, *opts, name="whole"), tmp_path) as run:
        assert run.status() == 0, run.printed
    words = config(tmp_path, *opts)
    with Forked(train_net, words, tmp_path, partial(ask_after, 3)) as run:
        assert run.status() == 128 + signal.SIGTERM, run.printed
    assert "iteration 4 of 6 is in" in stopped_line(run.printed)
    with Forked(train_net, [*words, "--resume"], tmp_path) as run:
        assert run.status() == 0, run.printed
    finals = [
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)
        for name in ("whole", "run")
    ]
    assert_equal(*finals)


def ask_before_the_first() -> None:
    Trainer.before_train = lambda self: os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_a_resumed_run_that_is_asked_at_once_says_where_it_was(tmp_path: Path) -> None:
    words = config(tmp_path, "SOLVER.MAX_ITER", 2, "SOLVER.CHECKPOINT_PERIOD", 2)
    with Forked(train_net, words, tmp_path) as run:
        assert run.status() == 0, run.printed
    words += ["--resume", "SOLVER.MAX_ITER", 4]
    with Forked(train_net, words, tmp_path, ask_before_the_first) as run:
        assert run.status() == 128 + signal.SIGTERM, run.printed
    path = tmp_path / "run" / "model_0000001.pth"
    assert f"iteration 2 of 4 is in {path};" in stopped_line(run.printed)
    assert path.is_file()


def hang_in_a_step() -> None:
    def run_step(self: Trainer) -> None:
        Path(self.cfg.OUTPUT_DIR, "hangs").touch()
        while True:
            time.sleep(0.01)

    pytest.MonkeyPatch().setattr(Trainer, "run_step", run_step)


def test_the_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    words = config(tmp_path, *FOR_EVER)
    with Forked(train_net, words, tmp_path, hang_in_a_step) as run:
        run.wait_for((tmp_path / "run" / "hangs").is_file)
        os.kill(run.pid, signal.SIGINT)
        time.sleep(0.3)
        assert children(os.getpid())
        os.kill(run.pid, signal.SIGTERM)
        assert run.status() == 128 + signal.SIGTERM, run.printed
    assert stopped_line(run.printed) == (
        "Stopped at once by SIGTERM: --resume goes on from the last checkpoint."
    )


def hang_in_evaluation() -> None:
    def test(cls: type, cfg: Any, *_: Any) -> None:
        Path(cfg.OUTPUT_DIR, "hangs").touch()
        while True:
            time.sleep(0.01)

    pytest.MonkeyPatch().setattr(Trainer, "test", classmethod(test))


def test_a_signal_during_an_evaluation_ends_it_and_keeps_what_is_trained(tmp_path: Path) -> None:
    words = config(tmp_path, *FOR_EVER, "TEST.EVAL_PERIOD", 2, test=True)
    with Forked(train_net, words, tmp_path, hang_in_evaluation) as run:
        run.wait_for((tmp_path / "run" / "hangs").is_file)
        os.kill(run.pid, signal.SIGTERM)
        assert run.status() == 128 + signal.SIGTERM, run.printed
    assert "iteration 2 of 100000 is in" in stopped_line(run.printed)
    assert (tmp_path / "run" / "model_0000001.pth").is_file()


def test_a_signal_before_training_says_that_there_is_nothing(tmp_path: Path) -> None:
    words = config(tmp_path, test=True)
    with Forked(train_net, [*words, "--eval-only"], tmp_path, hang_in_evaluation) as run:
        run.wait_for((tmp_path / "run" / "hangs").is_file)
        os.kill(run.pid, signal.SIGINT)
        assert run.status() == 128 + signal.SIGINT, run.printed
    assert "SIGINT: there is no finished iteration to resume from." in stopped_line(run.printed)


def start_two(root: Path, *opts: Any) -> subprocess.Popen[str]:
    """Starts a run of two processes, and returns when both train."""
    words = config(root, *FOR_EVER, "DATALOADER.NUM_WORKERS", 1, *opts)
    command = [ROOT / "train_net.py", *words, "--num-gpus", 2, "--dist-url", "auto"]
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + LIMIT
    while not all((root / "run" / f"log.txt{end}").is_file() for end in ("", ".rank1")) or not all(
        "Starting training" in (root / "run" / f"log.txt{end}").read_text()
        for end in ("", ".rank1")
    ):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    return process


def ranks_of(process: subprocess.Popen[str]) -> list[int]:
    ranks = [
        pid
        for pid in children(process.pid)
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(ranks) == 2
    return ranks


def assert_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + LIMIT
    while any(map(alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [True, False])
def test_all_processes_of_a_run_end_together(tmp_path: Path, to_all: bool) -> None:
    process = start_two(tmp_path)
    ranks = ranks_of(process)
    try:
        for pid in (*(ranks if to_all else ()), process.pid):
            os.kill(pid, signal.SIGTERM)
        _, printed = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM, printed
    line = stopped_line(printed)
    (path,) = (tmp_path / "run").glob("model_*.pth")
    assert f"is in {path}; the same command with --resume" in line
    assert_gone(ranks)


@pytest.mark.slow
def test_the_second_signal_ends_all_processes_at_once(tmp_path: Path) -> None:
    process = start_two(tmp_path)
    ranks = ranks_of(process)
    os.kill(ranks[1], signal.SIGSTOP)  # so that no iteration ends
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)  # another SIGINT might be one with the first
    _, printed = process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Stopped at once by SIGTERM" in stopped_line(printed)
    assert_gone(ranks)


@pytest.mark.slow
def test_a_signal_while_the_processes_import_is_one_line(tmp_path: Path) -> None:
    command = [ROOT / "train_net.py", *config(tmp_path), "--num-gpus", 2, "--dist-url", "auto"]
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + LIMIT
    while not any(
        b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(process.pid)
    ):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C in a terminal
    _, printed = process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + signal.SIGINT
    assert stopped_line(printed) == "Stopped by SIGINT: files that are written are whole."


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["leader", "rank"])
def test_no_process_outlives_the_others(tmp_path: Path, victim: str) -> None:
    process = start_two(tmp_path)
    ranks = ranks_of(process)
    everyone = [*ranks, *(pid for rank in ranks for pid in children(rank))]
    assert len(everyone) == 4
    os.kill(process.pid if victim == "leader" else ranks[1], signal.SIGKILL)
    assert_gone(everyone)
    process.communicate(timeout=LIMIT)
