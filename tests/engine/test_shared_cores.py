"""How many threads a training uses beside other programs: of counters that are given, and real."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch

from solo_family import threads
from solo_family.engine.shared_cores import SharedCores, busy_seconds, own_seconds, shared_cores
from solo_family.engine.trainer import Trainer

from ..coco_folder import run_cfg, small_dataset
from ..conftest import tiny_cfg


class Machine:
    """Counters of a machine with some cores, on which this process uses a core per thread.

    Attributes:
        others: the cores that other programs use.
    """

    def __init__(self, cores: int) -> None:
        self.others = 0.0
        self.time = self.all = self.own = 0.0
        self.cores = SharedCores(cores, lambda: self.all, lambda: self.own, clock=lambda: self.time)

    def run(self, seconds: float, step: float = 0.25) -> list[int]:
        """Let steps of a training take some time, and return the threads of each."""
        used = []
        for _ in range(round(seconds / step)):
            self.cores.before_step()
            used.append(torch.get_num_threads())
            self.time += step
            self.own += step * used[-1]
            self.all += step * (used[-1] + self.others)
        return used


@pytest.fixture(autouse=True)
def restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("cores", "others", "number"),
    [(2, 0.0, 2), (2, 0.3, 2), (2, 1.0, 1), (2, 2.0, 1), (2, 9.0, 1), (8, 1.0, 7), (8, 5.4, 3)],
)
def test_threads_have_a_core_each(cores: int, others: float, number: int) -> None:
    torch.set_num_threads(cores)
    machine = Machine(cores)
    machine.others = others
    machine.run(3)
    assert set(machine.run(5)) == {number}
    machine.others = 0.0
    machine.run(6)
    assert set(machine.run(5)) == {cores}


def test_a_program_that_stops_for_a_moment_changes_nothing() -> None:
    torch.set_num_threads(2)
    machine = Machine(2)
    machine.others = 1.0
    machine.run(3)
    for _ in range(4):
        machine.others = 0.0
        assert set(machine.run(1)) == {1}
        machine.others = 1.0
        assert set(machine.run(2)) == {1}


@pytest.mark.parametrize("others", [0.45, 0.5, 0.55])
def test_threads_do_not_change_back_and_forth(others: float) -> None:
    torch.set_num_threads(2)
    machine = Machine(2)
    machine.others = others
    assert len(set(machine.run(60)[20:])) == 1


def test_a_change_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    torch.set_num_threads(4)
    machine = Machine(4)
    machine.others = 1.5
    with caplog.at_level("INFO"):
        machine.run(10)
    expected = "with 2 of 4 threads, since other programs use 1.5 cores"
    assert [record.message for record in caplog.records if expected in record.message]
    assert len(caplog.records) == 1


def test_the_systems_count_is_that_of_the_cpus_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle time, waiting for files, what a host takes, and other CPUs do not count."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 10})
    (tmp_path / "proc").mkdir()
    rows = ["cpu 9 9 9 9 9 9 9 9 9 9", "cpu0 500 0 0 0 0 0 0 0 0 0", "intr 1 2 3"]
    rows += ["cpu1 100 20 30 4000 500 6 7 800 0 0", "cpu10 1000 0 0 0 0 0 0 0 0 0"]
    (tmp_path / "proc/stat").write_text("\n".join(rows))
    assert busy_seconds(tmp_path) == pytest.approx(1163 / os.sysconf("SC_CLK_TCK"))


def compute(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def worker(started: Event, over: Event) -> None:
    compute(0.3)
    started.set()
    over.wait()


def test_the_loaders_workers_are_no_other_programs() -> None:
    """Neither while they run, nor when they have ended."""
    before = own_seconds()
    context = multiprocessing.get_context("fork")
    computed, over = context.Event(), context.Event()
    child = context.Process(target=worker, args=(computed, over))
    child.start()
    assert computed.wait(60)
    compute(0.1)
    alive = own_seconds()
    assert alive - before >= 0.35
    over.set()
    child.join()
    assert own_seconds() >= alive - 0.05


def test_a_number_that_the_user_has_chosen_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    cfg = run_cfg(small_dataset(tmp_path).name, tmp_path / "run")

    def is_adapted() -> bool:
        return any(isinstance(hook, SharedCores) for hook in Trainer(cfg)._hooks)

    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "cgroup_cpus", lambda: None)
    monkeypatch.setattr(threads, "_chosen", {"OMP_NUM_THREADS": "2"})
    assert is_adapted()
    # A quota is shared with programs that can't be seen from here.
    monkeypatch.setattr(threads, "cgroup_cpus", lambda: 0.5)
    assert not is_adapted()
    monkeypatch.setattr(threads, "cgroup_cpus", lambda: None)
    monkeypatch.setenv("MKL_NUM_THREADS", "2")
    assert not is_adapted()
    monkeypatch.delenv("MKL_NUM_THREADS")
    monkeypatch.setattr(threads, "_chosen", {})
    assert not is_adapted()


def test_the_key_switches_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    monkeypatch.setattr(threads, "number_is_chosen", lambda: True)
    monkeypatch.setattr(threads, "cgroup_cpus", lambda: None)
    for is_on in (True, False):
        assert bool(shared_cores(tiny_cfg(opts=["SOLVER.SHARE_CORES", is_on]))) is is_on


def test_a_system_that_counts_nothing_keeps_its_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As macOS, which has neither /proc nor affinities."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    with pytest.raises(OSError, match="proc"):
        busy_seconds(tmp_path)
    monkeypatch.setattr(threads, "number_is_chosen", lambda: True)
    monkeypatch.setattr("solo_family.engine.shared_cores.busy_seconds", busy_of(tmp_path))
    torch.set_num_threads(2)
    assert shared_cores(tiny_cfg()) == []


def busy_of(root: Path) -> Callable[[], float]:
    return lambda: busy_seconds(root)
