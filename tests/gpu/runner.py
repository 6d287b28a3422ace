"""Runs stages in processes of their own, each for a limited time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .stages import rows
from .stages.rows import Row

_POLL_SECONDS = 0.05


class Stage(NamedTuple):
    """What one process does.

    Attributes:
        name: also of its module among the stages.
        limit: seconds that it may take.
        timed: whether it measures times, and has the machine to itself.
        threads: of OpenMP, in each of its processes.
        command: what is run.
    """

    name: str
    limit: float
    timed: bool = False
    threads: int = 4
    command: tuple[str, ...] = ()

    def words(self) -> tuple[str, ...]:
        return self.command or (sys.executable, "-m", "tests.gpu.stages", self.name)


class Runner:
    """Starts stages and says how each has ended, in rows and on standard output.

    Args:
        folder: takes `rows.jsonl` and a log of each stage.
        environment: of every process.
        root: the folder they run in.
        budget: seconds for all stages together, from now on.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], root: Path, budget: float
    ) -> None:
        self._folder = folder
        self._file = folder / "rows.jsonl"
        self._environment = {**environment, rows.FILE: str(self._file.resolve())}
        self._root = root
        self._deadline = time.monotonic() + budget

    def seconds_left(self) -> float:
        return self._deadline - time.monotonic()

    def run(self, stages: Sequence[Stage], *, at_once: int, seconds: float) -> None:
        """Run stages in their order; return when the last has ended or was ended.

        Args:
            stages: those that don't start in time get a row that says so.
            at_once: how many run side by side.
            seconds: for all of them; never more than is left of the budget.
        """
        end = time.monotonic() + min(seconds, self.seconds_left())
        waiting, running = list(stages), list[_Process]()
        try:
            while waiting or running:
                running = [process for process in running if not self._has_ended(process)]
                while waiting and len(running) < at_once:
                    stage = waiting.pop(0)
                    left = end - time.monotonic()
                    if left <= 0:
                        self._fail(stage, "not started: the time of the run was over")
                    else:
                        running.append(self._start(stage, min(stage.limit, left)))
                time.sleep(_POLL_SECONDS)
        finally:
            for process in running:
                process.finish()

    def _start(self, stage: Stage, limit: float) -> _Process:
        threads = str(stage.threads)
        environment = {
            **self._environment,
            rows.STAGE: stage.name,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "TORCHINDUCTOR_COMPILE_THREADS": threads,
        }
        return _Process(stage, limit, self._log(stage), environment, self._root)

    def _has_ended(self, process: _Process) -> bool:
        late = process.is_late()
        if not (late or process.has_ended()):
            return False
        stage = process.stage
        status = process.finish()
        how = "its time was over" if late else f"exit status {status}"
        if late or status:
            last = _last_line(self._log(stage))
            self._fail(stage, f"{how} after {process.seconds():.0f} s; {stage.name}.log: {last}")
        print(f"{stage.name}: {process.seconds():.0f} s, {how}", flush=True)
        return True

    def _fail(self, stage: Stage, note: str) -> None:
        rows.append(self._file, Row(stage.name, "the stage itself", False, note=note))

    def _log(self, stage: Stage) -> Path:
        return self._folder / f"{stage.name}.log"


class _Process:
    """A stage that runs, in a group of its own, so that what it has started ends with it."""

    def __init__(
        self, stage: Stage, limit: float, log: Path, environment: Mapping[str, str], root: Path
    ) -> None:
        self.stage = stage
        self._begin = time.monotonic()
        self._limit = limit
        with open(log, "w") as output:
            self._process = subprocess.Popen(
                stage.words(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=root,
                env=dict(environment),
                start_new_session=True,
            )

    def seconds(self) -> float:
        return time.monotonic() - self._begin

    def is_late(self) -> bool:
        return self.seconds() > self._limit

    def has_ended(self) -> bool:
        # Not reaped yet, so that the number of its group can't become another's.
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, options) is not None

    def finish(self) -> int:
        """End it with all that it has started and is still there; return its exit status."""
        os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "empty"
