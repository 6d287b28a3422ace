"""The benchmark beside a busy process: its processes, its turns, its table."""

import subprocess

import pytest

from benchmarks import busy
from solo_family import threads


def test_ratios_are_of_medians() -> None:
    times: busy.Times = {
        ("torch's own", False): [1.0, 2.0, 9.0],
        ("torch's own", True): [8.0],
        ("chosen", False): [2.0],
        ("chosen", True): [4.0, 4.0, 1.0],
    }
    assert busy.rows_of("training", times) == [
        ["training", "torch's own", 1.0, 4.0, 4.0],
        ["training", "chosen", 1.0, 2.0, 2.0],
    ]


def test_settings_are_torchs_own_and_those_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda *_: threads.Cores(3, ""))
    assert busy.settings([7]) == {
        "torch's own": {
            "OMP_NUM_THREADS": "3",
            "GOMP_SPINCOUNT": "300000",
            "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024",
        },
        # By the process itself, as in a training.
        "chosen": {},
        "spin 7": {"OMP_NUM_THREADS": "3", "GOMP_SPINCOUNT": "7"},
    }


def test_all_settings_take_turns_alone_and_beside_a_busy_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[tuple[str, bool]] = []
    busy_ones: list[subprocess.Popen] = []

    class Process(subprocess.Popen):
        def __init__(self, command: list[str]) -> None:
            super().__init__(command)
            busy_ones.append(self)

    class Turns:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self):
            return self.turn

        def __exit__(self, *_: object) -> None:
            pass

        def turn(self) -> list[float]:
            running = any(process.poll() is None for process in busy_ones)
            order.append((self.name, running))
            return [1.0]

    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(busy, "_PAUSE", 0.0)
    monkeypatch.setattr(busy, "process", lambda what, values, scale: Turns(values["name"]))
    variables = {"a": {"name": "a"}, "b": {"name": "b"}}
    times = busy.measure("inference", variables, seconds=0, scale=1.0)
    warm_up = [("a", False)] * 2 + [("b", False)] * 2
    assert order == [*warm_up, ("a", False), ("b", False), ("a", True), ("b", True)]
    assert times == {key: [1.0] for key in [("a", False), ("a", True), ("b", False), ("b", True)]}
    assert len(busy_ones) == 1


@pytest.mark.slow
@pytest.mark.parametrize("what", busy.WHATS)
def test_each_process_does_its_work(what: str) -> None:
    with busy.process(what, {"OMP_NUM_THREADS": "1"}, scale=0.2) as turn:
        seconds = turn()
    assert len(seconds) == busy._RUNS[what]
    assert all(value > 0 for value in seconds)
