"""The launcher's wait for its processes: no exit of theirs is waited for without an end."""

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from solo_family.engine import launcher
from solo_family.engine.launcher import _Leader
from solo_family.engine.led import Report, leave
from solo_family.stopping import handling

from ..forked import LIMIT

STOPPED = 128 + signal.SIGTERM


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_GRACE", 0.3)


def hang() -> None:
    while True:
        time.sleep(1)


def led(*bodies: Callable[[Any], None]) -> _Leader:
    """Returns the leader of processes that call the given functions with their pipes."""
    context = multiprocessing.get_context("fork")
    processes, receivers = [], []
    for body in bodies:
        receiver, sender = context.Pipe(duplex=False)
        processes.append(context.Process(target=body, args=(sender,), daemon=True))
        processes[-1].start()
        sender.close()
        receivers.append(receiver)
    return _Leader(processes, receivers)


def report_and_hang(status: int, trace: str = "") -> Callable[[Any], None]:
    def body(sender: Any) -> None:
        sender.send(Report(status, trace))
        hang()

    return body


@pytest.mark.parametrize("status", [0, STOPPED])
def test_a_process_that_hangs_after_its_work_is_ended_with_its_own_status(status: int) -> None:
    leader = led(report_and_hang(status), report_and_hang(status))
    assert leader.wait() == (0 if status else None)
    assert leader.status(0) == leader.status(1) == status


def test_when_the_main_process_was_stopped_no_other_is_waited_for() -> None:
    def stop_later(sender: Any) -> None:
        time.sleep(0.5)
        sender.send(Report(STOPPED))

    leader = led(stop_later, report_and_hang(STOPPED), lambda _: hang())
    assert leader.wait() == 1
    assert leader.status(0) == STOPPED
    assert leader.status(2) == -signal.SIGKILL


def test_when_another_was_stopped_the_main_process_may_write() -> None:
    def write(sender: Any) -> None:
        time.sleep(1)  # longer than the others are given
        sender.send(Report(STOPPED))

    leader = led(write, report_and_hang(STOPPED))
    assert leader.wait() == 1
    assert leader.status(0) == STOPPED


def test_the_error_is_that_of_the_first_process_that_failed() -> None:
    leader = led(lambda _: hang(), report_and_hang(1, "Traceback\nDataError: no such file\n"))
    assert leader.wait() == 1
    error = leader.error(1)
    assert isinstance(error, ProcessRaisedException)
    assert "DataError: no such file" in str(error)


def test_a_process_that_the_system_has_ended_is_named() -> None:
    leader = led(lambda _: hang(), lambda _: os.kill(os.getpid(), signal.SIGKILL))
    assert leader.wait() == 1
    error = leader.error(1)
    assert isinstance(error, ProcessExitedException)
    assert error.signal_name == "SIGKILL"


def test_a_process_that_leaves_reports_and_runs_its_exit_handlers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_GRACE", LIMIT)

    def body(sender: Any) -> None:
        atexit._clear()  # those of the tests' own process
        atexit.register((tmp_path / "at_exit").touch)
        pool = ThreadPoolExecutor(1)  # its thread waits for work, until it is told to end
        pool.submit((tmp_path / "in_a_thread").touch)
        leave(Report(STOPPED), sender)

    leader = led(body)
    assert leader.wait() == 0
    assert leader._reports == {0: Report(STOPPED)}
    assert leader._processes[0].exitcode == STOPPED  # its own, not that of being killed
    assert (tmp_path / "at_exit").is_file()
    assert (tmp_path / "in_a_thread").is_file()


# An object that takes for ever to be freed, as a C++ destructor that waits for another process.
ENDLESS = """
import multiprocessing, sys, time
from solo_family.engine.led import Report, leave
class Endless:
    def __del__(self):
        time.sleep(10**6)
sys.kept = Endless()
leave(Report(7), multiprocessing.Pipe(duplex=False)[1])
"""


@pytest.mark.slow
def test_a_process_leaves_without_freeing_its_objects() -> None:
    assert subprocess.run([sys.executable, "-c", ENDLESS], timeout=LIMIT).returncode == 7


def test_a_signal_ends_at_once_what_has_not_begun() -> None:
    leader = led(lambda _: hang(), lambda _: hang())
    leader.handle(signal.SIGINT, None)
    leader.wait()
    assert leader.asked == signal.SIGINT
    assert leader.status(0) == leader.status(1) == -signal.SIGKILL
    assert not leader.is_told


def test_a_signal_reaches_what_has_begun() -> None:
    def body(sender: Any) -> None:
        received: list[int] = []
        with handling(lambda number, _: received.append(number)):
            sender.send(Report(None))
            while not received:
                time.sleep(0.01)
        sender.send(Report(128 + received[0], is_told=True))

    leader = led(body)
    while not leader._reports:
        leader._read_reports()
    leader.handle(signal.SIGUSR1, None)
    assert leader.wait() == 0
    assert leader.status(0) == 128 + signal.SIGUSR1
    assert leader.is_told
