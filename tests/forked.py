"""Commands in real processes that start at once, because they are forks of this one."""

import faulthandler
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import torch

LIMIT = 300  # seconds; a hang ends here, and nothing is said of how fast a command is
_TRIES, _START = 3, 60  # times, and seconds for each


class Forked:
    """A command that runs, and what it prints.

    Args:
        main: the entry point, called with `words`; returns the exit status.
        words: of the command line.
        folder: for the file of what it prints, stdout and stderr together.
        before: called in the new process, before `main`.
    """

    def __init__(
        self,
        main: Callable[[list[str]], int],
        words: Sequence[Any],
        folder: Path,
        before: Callable[[], Any] | None = None,
    ) -> None:
        self._file = folder / f"printed_{len(list(folder.glob('printed_*')))}.txt"
        context = multiprocessing.get_context("fork")
        for _ in range(_TRIES):
            started = context.Event()
            self._process = context.Process(
                target=_run, args=(main, [str(word) for word in words], self._file, before, started)
            )
            self._process.start()
            # A lock that another thread of this process held while it was forked stays locked in
            # the fork, which then never starts.
            if started.wait(_START):
                break
            self.kill()

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def printed(self) -> str:
        return self._file.read_text() if self._file.is_file() else ""

    def kill(self) -> None:
        if self._process.is_alive():
            for pid in [*children(self.pid), self.pid]:
                os.kill(pid, signal.SIGKILL)
        self._process.join()

    def wait_for(
        self, condition: Callable[[], Any], every: float = 0.01, limit: float = LIMIT
    ) -> None:
        """Returns when `condition()` is true, while the command runs."""
        deadline = time.monotonic() + limit
        while not condition():
            assert self._process.is_alive(), self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(every)

    def status(self, limit: float = LIMIT) -> int:
        """Returns the exit status, when the command has ended within `limit` seconds."""
        self._process.join(limit)
        assert self._process.exitcode is not None, f"hangs: {self.printed}"
        return self._process.exitcode

    def error(self, limit: float = LIMIT) -> str:
        """Returns the one line with which the command ends, with status 2 and no traceback."""
        assert self.status(limit) == 2, self.printed
        printed = self.printed
        assert "Traceback" not in printed, printed
        (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
        return line.removeprefix("error: ")


def _run(
    main: Callable[[list[str]], int],
    words: list[str],
    path: Path,
    before: Callable[[], Any] | None,
    started: Any,
) -> None:
    file = open(path, "w", buffering=1)  # noqa: SIM115
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    sys.stdout = sys.stderr = file
    # Threads of OpenMP do not outlive a fork.
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    # Nor does a GPU that this process's parent has used: whoever asked for its name would fail.
    torch.cuda.is_available, torch.cuda.device_count = (lambda: False), (lambda: 0)
    started.set()
    # What hangs says where, in what it prints.
    faulthandler.dump_traceback_later(LIMIT - 60, file=file)
    if before is not None:
        before()
    sys.exit(main(words))


def alive(pid: int) -> bool:
    """Returns whether a process runs: not one that has ended, and that nobody has asked about."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in "ZX"


def children(pid: int) -> list[int]:
    """Returns the processes that one has started, the oldest first."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rsplit(")", 1)[1].split()[:2]
        except OSError:  # it has just ended
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(path.parent.name))
    return sorted(found)


def fail(module: Any, name: str, number: int) -> None:
    """Has a function of the system's fail in this process, with an error number."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    setattr(module, name, refuse)
