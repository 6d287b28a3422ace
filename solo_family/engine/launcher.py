"""The launcher of a run's processes on this machine: it forwards signals, and ends all together.

The processes are detectron2's. Its own launcher may wait for some of them for more than half a
minute.
"""

import argparse
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

import torch.multiprocessing
from detectron2.engine.launch import _find_free_port
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from ..stopping import (
    SIGNALS,
    Stopped,
    end_at_once,
    handling,
    signals_blocked,
)
from .ending import LAST_CHECKPOINT
from .led import Report, run_process

_GRACE = 2.0  # seconds in which a process must end after its work, or after another's failure
_WRITING = 120.0  # the same after another was stopped by a signal: the main may write a checkpoint
_LOOK = 0.2
_STOPPED = {128 + number for number in SIGNALS}


def lead(run: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> None:
    """Call `run(args)` in each process of this machine, and return when all have ended.

    Args:
        run: the body of one process.
        args: detectron2's flags.

    Raises:
        Stopped: a signal has ended the run.
        ProcessRaisedException, ProcessExitedException: a process failed; this is the error of the
            first one that did.
    """
    address = args.dist_url
    if address == "auto":
        address = f"tcp://127.0.0.1:{_find_free_port()}"
    pipes = [torch.multiprocessing.Pipe(duplex=False) for _ in range(args.num_gpus)]
    # Ctrl-C in a terminal reaches the processes, too, while they import what they need.
    with ExitStack() as until_end:
        with signals_blocked():
            context = torch.multiprocessing.start_processes(
                run_process,
                (os.getpid(), run, args, address, [sender for _, sender in pipes]),
                nprocs=args.num_gpus,
                join=False,
            )
            leader = _Leader(context.processes, [receiver for receiver, _ in pipes])
            until_end.enter_context(handling(leader.handle))
        for _, sender in pipes:
            sender.close()
        failed = leader.wait()
    status = 0 if failed is None else leader.status(failed)
    if leader.asked or status in _STOPPED:
        stopped = Stopped(leader.asked or status - 128)
        stopped.is_told = leader.is_told or args.machine_rank > 0
        raise stopped
    if failed is not None:
        raise leader.error(failed)


class _Leader:
    """Wait for processes, and forward signals to them.

    Args:
        processes: they have started.
        receivers: of the reports of each process.

    Attributes:
        asked: the number of the first signal, or 0.
    """

    def __init__(self, processes: Sequence[Any], receivers: Sequence[Connection]) -> None:
        self.asked = 0
        self._processes = processes
        self._receivers = dict(enumerate(receivers))
        self._reports: dict[int, Report] = {}
        self._deadlines = dict.fromkeys(range(len(processes)), float("inf"))
        self._failed: int | None = None

    def handle(self, number: int, _: FrameType | None) -> None:
        """Forward the first signal to all processes; kill them, and end, at the second.

        Those that have not begun are killed at the first.
        """
        again, self.asked = bool(self.asked), self.asked or number
        for index, process in enumerate(self._processes):
            if process.is_alive():
                kill = again or index not in self._reports
                os.kill(process.pid, signal.SIGKILL if kill else number)
        if again:
            end_at_once(number, LAST_CHECKPOINT)

    def wait(self) -> int | None:
        """Wait until all processes have ended, and kill those that are late.

        Returns:
            The index of the process that failed first, or None if none has failed.
        """
        ended: set[int] = set()
        while True:
            alive = [index for index, process in enumerate(self._processes) if process.is_alive()]
            self._read_reports()
            new = [i for i in self._deadlines if i not in ended and self.status(i) is not None]
            # One that the system has ended comes before those that lost their connection to it.
            for index in sorted(new, key=self.status):
                ended.add(index)
                self._note_end(index, self.status(index))
            if not alive:
                break
            for index in alive:
                if time.monotonic() > self._deadlines[index]:
                    self._processes[index].kill()
            sentinels = [self._processes[index].sentinel for index in alive]
            wait([*sentinels, *self._receivers.values()], _LOOK)
        return self._failed

    @property
    def is_told(self) -> bool:
        """Whether a process has printed why the run has ended."""
        return any(report.is_told for report in self._reports.values())

    def status(self, index: int) -> Any:
        """Return the exit status that a process has reported or ended with, None before that."""
        report = self._reports.get(index)
        if report is None or report.status is None:
            return self._processes[index].exitcode
        return report.status

    def error(self, index: int) -> ProcessRaisedException | ProcessExitedException:
        """Return torch's exception for a process that has failed."""
        pid, report = self._processes[index].pid, self._reports.get(index)
        if report is not None and report.trace:
            return ProcessRaisedException(
                f"Process {index} terminated with the following error:\n{report.trace}", index, pid
            )
        status = self.status(index)
        name = signal.Signals(-status).name if status < 0 else None
        how = name or f"exit status {status}"
        return ProcessExitedException(
            f"Process {index} terminated with {how}", index, pid, status, name
        )

    def _read_reports(self) -> None:
        for index, receiver in list(self._receivers.items()):
            try:
                while receiver.poll():
                    self._reports[index] = receiver.recv()
            except (EOFError, OSError):
                del self._receivers[index]

    def _note_end(self, index: int, status: int) -> None:
        """Set deadlines for a process whose work is done, and for the others if it has failed."""
        now = time.monotonic()
        if status and (self._failed is None or index == 0):
            main_may_write = status in _STOPPED and index != 0
            others = now + (_WRITING if main_may_write else _GRACE)
            self._failed = index if self._failed is None else self._failed
            self._deadlines = {i: min(old, others) for i, old in self._deadlines.items()}
        self._deadlines[index] = min(self._deadlines[index], now + _GRACE)
