"""A process that the launcher has started: its work, its report, and its exit."""

import argparse
import atexit
import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, NoReturn

from detectron2.engine.launch import DEFAULT_TIMEOUT, _distributed_worker

from ..heap import keep_freed_memory
from ..lifetime import end_with_parent
from ..stopping import Stopped, unblock_signals
from .ending import ENDING

_led = False


def is_led() -> bool:
    """Return whether the launcher has started this process."""
    return _led


class Report(NamedTuple):
    """What a process sends to the leader, in its beginning with no status, and when it leaves.

    Attributes:
        status: the exit status, or None in the beginning: from then on signals can reach it.
        trace: the traceback of its error, or "".
        is_told: whether it has printed why it has ended.
    """

    status: int | None
    trace: str = ""
    is_told: bool = False


def run_process(
    local_rank: int,
    parent: int,
    run: Callable[[argparse.Namespace], Any],
    args: argparse.Namespace,
    address: str,
    senders: list[Connection],
) -> None:
    """Run `run(args)` in one of the processes of this machine; their main function.

    Args:
        local_rank: the process's number on this machine.
        parent: the launcher's process id.
        run: the body.
        args: detectron2's flags.
        address: at which all processes meet.
        senders: to the launcher, one per process.
    """
    global _led
    _led = True
    end_with_parent(parent)
    keep_freed_memory()
    sender, report = senders[local_rank], Report(0)
    try:
        _distributed_worker(
            local_rank,
            _begin,
            args.num_machines * args.num_gpus,
            args.num_gpus,
            args.machine_rank,
            address,
            (sender, run, args),
            DEFAULT_TIMEOUT,
        )
    except Stopped as stopped:
        report = Report(128 + stopped.number, is_told=stopped.is_told)
    except Exception:
        report = Report(1, traceback.format_exc())
    leave(report, sender)


def _begin(
    sender: Connection, run: Callable[[argparse.Namespace], Any], args: argparse.Namespace
) -> None:
    with ENDING.listening(is_led=True):
        sender.send(Report(None))
        unblock_signals()
        run(args)


def leave(report: Report, sender: Connection) -> NoReturn:
    """Report to the leader, and end this process without taking the interpreter apart.

    Python would free every object of torch's one by one, for seconds of computing, and its C++
    destructors may wait for other processes. After the report the leader ends a process that hangs.
    """
    # Wait for threads of other code, as at any other exit.
    threading._shutdown()  # type: ignore[attr-defined]
    _flush()
    with suppress(OSError):
        sender.send(report)
    atexit._run_exitfuncs()
    _flush()
    os._exit(report.status or 0)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or None
            stream.flush()
