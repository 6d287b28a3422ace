"""Faults of runs of two processes (gloo)."""

import hashlib
import json
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.engine.hooks import CallbackHook
from detectron2.utils import comm

from solo_family.engine.main import main as train_net
from solo_family.engine.trainer import Trainer

from ..engine.test_exact_resume import COLOURS
from ..engine.test_resume import assert_equal
from ..forked import Forked, alive, children
from .faults import ENDLESS, LIMIT, Fault, Soak, assert_whole

_TOGETHER = 5.0  # seconds that a process may live longer than its parent or its fellows
_SLOW = 600.0  # seconds: each process imports torch anew, on machines that do other work
_ITERATIONS = 8
_SHORT: list[Any] = [
    *("SOLVER.MAX_ITER", _ITERATIONS, "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.IMS_PER_BATCH", 4),
    *("DATALOADER.NUM_WORKERS", 1, "INPUT.RANDOM_FLIP", "horizontal", *COLOURS),
]


class Recording(Trainer):
    """Writes down what each process is given in each iteration."""

    def build_hooks(self) -> list[Any]:
        path = Path(self.cfg.OUTPUT_DIR) / f"inputs.{comm.get_rank()}"

        def record(trainer: Any) -> None:
            images = [item["image"] for item in trainer._trainer.last_batch]
            digests = [hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in images]
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps([trainer.iter, digests]) + "\n")

        return [*super().build_hooks(), CallbackHook(after_step=record)]


def inputs(output: Path) -> dict[int, list[str]]:
    """Returns what all processes were given, by the iteration; of one done twice the last time."""
    found: dict[int, list[str]] = {}
    for rank in (0, 1):
        path = output / f"inputs.{rank}"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        for iteration, digests in dict(map(json.loads, lines)).items():
            found.setdefault(iteration, []).extend(digests)
        path.unlink(missing_ok=True)
    return found


def start(words: list[Any], folder: Path, processes: int = 2, *flags: str) -> Forked:
    flags = (*flags, "--num-gpus", str(processes), "--dist-url", "auto")
    return Forked(partial(train_net, trainer=Recording), [*words, *flags], folder)


def until_both_train(run: Forked, output: Path) -> list[int]:
    """Returns the two processes, when both train."""
    logs = [output / name for name in ("log.txt", "log.txt.rank1")]
    run.wait_for(
        lambda: all(log.is_file() and "Starting tr" in log.read_text() for log in logs),
        limit=_SLOW,
    )
    ranks = [
        pid
        for pid in children(run.pid)
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(ranks) == 2, ranks
    return ranks


def descendants(pid: int) -> list[int]:
    below = children(pid)
    return [*below, *(grandchild for child in below for grandchild in descendants(child))]


def assert_gone(pids: list[int], limit: float) -> None:
    deadline = time.monotonic() + limit
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < deadline, f"{left} of {pids} are alive"
        time.sleep(0.02)


def kill_one_of_two(soak: Soak, folder: Path, number: int) -> None:
    """Kills a process of a run, or what started them, at a random moment."""
    words = soak.small(folder, *ENDLESS, "DATALOADER.NUM_WORKERS", soak.rng.randint(0, 2))
    with start(words, folder) as run:
        ranks = until_both_train(run, folder / "run")
        time.sleep(soak.rng.uniform(0, 1.0))
        everyone = descendants(run.pid)
        victim = (run.pid, *ranks)[number % 3]
        os.kill(victim, signal.SIGKILL)
        assert_gone(everyone, _TOGETHER)
        if victim != run.pid:
            assert "of this run was ended by SIGKILL" in run.error(_TOGETHER)
    assert "Traceback" not in run.printed, run.printed
    assert_whole(folder / "run")


def signal_two(soak: Soak, folder: Path, number: int) -> None:
    """Asks both to end: by way of what started them, or of all, as a terminal does; or twice."""
    words = soak.small(folder, *ENDLESS, "DATALOADER.NUM_WORKERS", soak.rng.randint(0, 2))
    asked = soak.rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
    with start(words, folder) as run:
        ranks = until_both_train(run, folder / "run")
        time.sleep(soak.rng.uniform(0, 1.0))
        everyone = descendants(run.pid)
        for pid in (*(ranks if number % 2 else ()), run.pid):
            os.kill(pid, asked)
        if number % 3 == 2:
            os.kill(run.pid, asked)
        assert run.status(LIMIT) == 128 + asked, run.printed
        assert_gone(everyone, _TOGETHER)
    assert "Traceback" not in run.printed, run.printed
    lines = [line for line in run.printed.splitlines() if line.startswith("Stopped ")]
    assert len(lines) == 1, run.printed
    assert_whole(folder / "run")


def kill_two_and_resume(soak: Soak, folder: Path, number: int) -> None:
    """Kills a run of two and goes on with two, then with one, from the same checkpoint.

    With two the end is that of an undisturbed run, to the bit. One process rounds otherwise, but is
    given the same pictures, augmented alike.
    """
    expected, given = soak.kept("two processes", partial(_undisturbed, soak))
    words, output = soak.small(folder, *_SHORT), folder / "run"
    with start(words, folder) as run:
        run.wait_for((output / "last_checkpoint").is_file, limit=_SLOW)
        time.sleep(soak.rng.uniform(0, 0.3))
        run.kill()
    for processes in (2, 1):
        with start(words, folder, processes, "--resume") as run:
            assert run.status(_SLOW) == 0, run.printed
        for iteration, digests in inputs(output).items():
            assert digests == given[iteration], f"{processes} processes, iteration {iteration}"
        if processes == 2:
            final = torch.load(output / "model_final.pth", weights_only=True)
            assert_equal(final, expected)
            for path in output.glob("model_*.pth"):
                if path.name != "model_0000001.pth":
                    path.unlink()
            (output / "last_checkpoint").write_text("model_0000001.pth", encoding="utf-8")
    assert (output / "model_final.pth").is_file()


def _undisturbed(soak: Soak, folder: Path) -> tuple[dict[str, Any], dict[int, list[str]]]:
    with start(soak.small(folder, *_SHORT), folder) as run:
        assert run.status(_SLOW) == 0, run.printed
    final = torch.load(folder / "run" / "model_final.pth", weights_only=True)
    return final, inputs(folder / "run")


FAULTS = (
    Fault(
        "two processes, one of them or their parent killed",
        "one line, status 2; all are gone within 5 s",
        9,
        kill_one_of_two,
    ),
    Fault(
        "two processes, signals to one or all, once or twice",
        "one line, status 128 + signal; all are gone within 5 s",
        9,
        signal_two,
    ),
    Fault(
        "two processes killed, resumed by two and by one",
        "two end as if never killed, to the bit; one is given the same pictures",
        6,
        kill_two_and_resume,
    ),
)
