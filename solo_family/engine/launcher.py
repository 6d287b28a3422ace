"""The launcher of a run's processes on this machine: it forwards signals, and ends all together.

The processes are detectron2's. Its own launcher may wait for some of them for more than half a
minute.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

import torch.multiprocessing
from detectron2.engine.launch import DEFAULT_TIMEOUT, _distributed_worker, _find_free_port
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException
from torch.multiprocessing.spawn import ProcessContext

from ..lifetime import end_with_parent
from ..stopping import SIGNALS, Stopped, end_at_once, handling
from .ending import LAST_CHECKPOINT

_GRACE = 2.0  # seconds that the other processes have to end after one has failed
_WRITING = 120.0  # the same after one was stopped by a signal, while the main writes a checkpoint
_LOOK = 0.2
_STOPPED = {128 + number for number in SIGNALS}

_led = False


def is_led() -> bool:
    """Return whether `lead` has started this process."""
    return _led


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
    context = torch.multiprocessing.start_processes(
        _process,
        (os.getpid(), run, args, address),
        nprocs=args.num_gpus,
        join=False,
    )
    leader = _Leader(context)
    with handling(leader.handle):
        failed = leader.wait()
    status = 0 if failed is None else context.processes[failed].exitcode
    if leader.asked or status in _STOPPED:
        raise Stopped(leader.asked or status - 128)
    if failed is not None:
        raise _error(context, failed)


class _Leader:
    """Wait for processes, and forward signals to them.

    Args:
        context: torch's context of the processes.

    Attributes:
        asked: the number of the first signal, or 0.
    """

    def __init__(self, context: ProcessContext) -> None:
        self.asked = 0
        self._processes = context.processes

    def handle(self, number: int, _: FrameType | None) -> None:
        """Forward the first signal to all processes; kill them, and end, at the second."""
        again, self.asked = bool(self.asked), self.asked or number
        for process in self._processes:
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL if again else number)
        if again:
            end_at_once(number, LAST_CHECKPOINT)

    def wait(self) -> int | None:
        """Wait until all processes have ended.

        Returns:
            The index of the process that failed first, or None if none has failed.
        """
        first, deadline = None, float("inf")
        while alive := [process for process in self._processes if process.is_alive()]:
            codes = [process.exitcode for process in self._processes]
            failed = [index for index, code in enumerate(codes) if code]
            if failed and first is None:
                first = failed[0]
                ended_well = codes[first] in _STOPPED
                deadline = time.monotonic() + (_WRITING if ended_well else _GRACE)
            if time.monotonic() > deadline:
                for process in alive:
                    process.kill()
            wait([process.sentinel for process in alive], _LOOK)
        codes = [process.exitcode for process in self._processes]
        return next((i for i, code in enumerate(codes) if code), None) if first is None else first


def _process(
    local_rank: int,
    parent: int,
    run: Callable[[argparse.Namespace], Any],
    args: argparse.Namespace,
    address: str,
) -> None:
    global _led
    _led = True
    end_with_parent(parent)
    try:
        _distributed_worker(
            local_rank,
            run,
            args.num_machines * args.num_gpus,
            args.num_gpus,
            args.machine_rank,
            address,
            (args,),
            DEFAULT_TIMEOUT,
        )
    except Stopped as stopped:
        # torch would treat Stopped, which is a KeyboardInterrupt, as success.
        sys.exit(128 + stopped.number)


def _error(context: ProcessContext, index: int) -> Exception:
    """Return torch's exception for a process that has failed."""
    try:
        ProcessContext([context.processes[index]], [context.error_files[index]]).join()
    except (ProcessExitedException, ProcessRaisedException) as error:
        error.error_index = index
        return error
    raise AssertionError("the process has not failed")
