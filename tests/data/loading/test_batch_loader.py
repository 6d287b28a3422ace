"""Batches come in order and whole from any number of processes, or the wait for them ends."""

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances

from solo_family.data.loading import batch_loader, shared_slots
from solo_family.data.loading.batch_loader import BatchLoader
from solo_family.data.loading.shared_slots import SharedSlots
from solo_family.errors import ConfigError, DataError, TrainingError

from ...forked import alive


def workers() -> list[int]:
    """Returns the processes that load, the oldest first."""
    return sorted(process.pid for process in multiprocessing.active_children() if process.pid)


class Numbered:
    """Items of every kind that mappers give."""

    def __getitem__(self, key: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(key)
        image = torch.randint(0, 256, (3, 20 + key, 30), generator=generator, dtype=torch.uint8)
        instances = Instances((20 + key, 30))
        instances.gt_masks = BitMasks(torch.rand(key % 3, 20, 30, generator=generator) > 0.5)
        instances.gt_boxes = Boxes(torch.rand(key % 3, 4, generator=generator))
        return {
            "name": f"{key}.png",
            "image": image,
            "instances": instances,
            "strided": image.permute(1, 2, 0)[::2],
            "kinds": [torch.tensor(key), torch.ones(2, dtype=torch.bfloat16), torch.empty(0, 5)],
            "array": np.arange(key)[::-1],
            "gradient": torch.ones(2, requires_grad=True),
        }


class Calling:
    """Calls a function for key 3."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function

    def __getitem__(self, key: int) -> Any:
        return self._function() if key == 3 else torch.full((4, 4), key)


def flat(value: Any) -> Any:
    """Returns the same with lists of numbers for tensors."""
    if isinstance(value, dict):
        return {key: flat(part) for key, part in value.items()}
    if isinstance(value, list):
        return [flat(part) for part in value]
    if isinstance(value, Instances):
        return flat(value.get_fields()) | {"size": value.image_size}
    if isinstance(value, BitMasks | Boxes):
        return flat(value.tensor)
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.tolist()
    return value.tolist() if isinstance(value, np.ndarray) else value


BATCHES = [[2 * index, 2 * index + 1] for index in range(15)]


@pytest.fixture(params=["shared", "full", "small", "none"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What there is of shared memory: enough, no slot free, too small slots, none."""

    def make(count: int, size: int) -> SharedSlots:
        if request.param == "none":
            raise OSError("no memory")
        slots = SharedSlots(count, 2**12 if request.param == "small" else size)
        if request.param == "full":
            while slots.take() is not None:
                pass
        return slots

    monkeypatch.setattr(batch_loader, "SharedSlots", make)
    return request.param


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_batches_are_those_of_this_process_and_stay_so(memory: str, count: int) -> None:
    expected = [flat(batch) for batch in BatchLoader(Numbered(), BATCHES)]
    loader = BatchLoader(Numbered(), BATCHES, num_workers=count, timeout=60)
    assert len(loader) == 15
    for _ in range(2):
        kept = list(loader)  # none is overwritten by those after it
        assert [flat(batch) for batch in kept] == expected
        kept[0][0]["image"].fill_(0)  # they can be written to
    assert not workers()


def test_without_shared_memory_one_line_says_that_it_takes_longer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(count: int, size: int) -> SharedSlots:
        raise OSError("no memory")

    monkeypatch.setattr(batch_loader, "SharedSlots", refuse)
    with caplog.at_level(logging.WARNING):
        list(BatchLoader(Numbered(), BATCHES, num_workers=2))
    (line,) = caplog.messages
    assert "send batches as bytes" in line


def test_where_no_process_can_be_started_images_are_loaded_here(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(batch_loader, "Worker", refuse)
    with caplog.at_level(logging.WARNING):
        batches = list(BatchLoader(Numbered(), BATCHES, num_workers=2))
    assert len(batches) == 15
    (line,) = caplog.messages
    assert "Resource temporarily unavailable" in line
    assert "loaded in the training process" in line


@pytest.mark.slow
def test_processes_need_not_be_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    context = multiprocessing.get_context("spawn")
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: context)
    expected = [flat(batch) for batch in BatchLoader(Numbered(), BATCHES[:2])]
    loader = BatchLoader(Numbered(), BATCHES[:2], num_workers=1)
    assert [flat(batch) for batch in loader] == expected


class Unpicklable(Exception):
    def __init__(self, one: int, other: Callable[[], None]) -> None:
        super().__init__("two arguments, of which one is a function")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def fail(error: Exception) -> Callable[[], Any]:
    def function() -> None:
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        (fail(DataError("cat.png can't be read")), DataError, r"^cat\.png can't be read$"),
        (fail(ConfigError("a key")), ConfigError, "^a key$"),
        (fail(ValueError("two\nlines")), TrainingError, r"failed: ValueError in .*: two lines\. "),
        (fail(Unpicklable(1, print)), TrainingError, r"failed: Unpicklable in .*: two arguments"),
        (fail(MemoryError("400 MB")), MemoryError, r"MemoryError in .*: 400 MB"),
        (lambda: lambda: None, TrainingError, r"failed: (AttributeError|PicklingError)"),
        (lambda: sys.exit(3), TrainingError, r"died \(exited unexpectedly with status 3\)"),
        (lambda: os._exit(0), TrainingError, r"died \(exited unexpectedly\)"),
        (lambda: kill(os.getpid()), TrainingError, r"died \(is killed by signal: Killed\)"),
    ],
)
def test_whatever_a_worker_fails_with_is_one_error(
    function: Callable[[], Any], kind: type[Exception], message: str
) -> None:
    loader = BatchLoader(Calling(function), [[key] for key in range(9)], num_workers=2)
    with pytest.raises(kind, match=message) as error:
        list(loader)
    assert type(error.value) is kind
    assert "\n" not in str(error.value)
    assert not workers()


def sleep_for_ever() -> None:
    time.sleep(1000)


def write_for_ever() -> torch.Tensor:
    return torch.zeros(2**22)


def test_a_worker_that_is_stuck_ends_the_wait_with_its_stack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_loader, "_STACK_TIME", 0.2)
    loader = BatchLoader(Calling(sleep_for_ever), [[3]], num_workers=1, timeout=1)
    with pytest.raises(TrainingError, match=r"has not loaded its batch in \d+ s") as error:
        list(loader)
    assert "DATALOADER.TIMEOUT 1)" in str(error.value)
    assert re_place(str(error.value)) == "sleep_for_ever"
    assert "__getitem__" in str(error.value.__cause__)


def re_place(text: str) -> str:
    """Returns the function that a message says a worker is in."""
    return text.rsplit(" in ", 1)[1].rstrip(".")


@pytest.mark.parametrize("memory", ["shared", "none"], indirect=True)
def test_a_worker_that_is_stopped_ends_the_wait(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle of a batch that comes as bytes."""
    monkeypatch.setattr(batch_loader, "_STACK_TIME", 0.2)
    loader = BatchLoader(Calling(write_for_ever), [[key] for key in range(9)], num_workers=1)
    loader.timeout = 1
    stopped: list[int] = []
    wait = batch_loader._Workers.wait
    # Before, a batch may take any time.
    monkeypatch.setattr(
        batch_loader._Workers, "wait", lambda *args: wait(*args) if stopped else None
    )
    batches: Iterator[Any] = iter(loader)
    next(batches)
    for worker in workers():
        os.kill(worker, signal.SIGSTOP)
        stopped.append(worker)
    with pytest.raises(TrainingError, match="an unknown place: it wrote no traceback"):
        list(batches)
    assert not workers()


@pytest.mark.parametrize("memory", ["shared", "none"], indirect=True)
def test_a_worker_killed_at_any_moment_ends_the_wait(memory: str) -> None:
    for attempt in range(4):
        loader = BatchLoader(
            Calling(write_for_ever), ([3] for _ in range(10**9)), num_workers=2, timeout=60
        )
        batches = iter(loader)
        for _ in range(2 + attempt):
            next(batches)
        time.sleep(0.003 * attempt)
        os.kill(workers()[attempt % 2], signal.SIGKILL)
        with pytest.raises(TrainingError, match=r"died \(is killed by signal: Killed\)"):
            list(batches)


def iterate(path: str) -> None:
    loader = BatchLoader(Calling(lambda: 0), ([key] for key in range(10**9)), num_workers=2)
    for number, _ in enumerate(loader):
        if number == 3:
            Path(path).write_text(" ".join(map(str, workers())))
            time.sleep(1000)


def test_workers_end_with_their_parent_whatever_they_do(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=iterate, args=(str(tmp_path / "pids"),)
    )
    process.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "pids").is_file() or not (tmp_path / "pids").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    process.kill()
    process.join()
    deadline = time.monotonic() + 60
    while any(map(alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_signals_to_the_whole_group_do_not_end_workers() -> None:
    """As SLURM and Ctrl-C send them: the run decides when it ends."""
    batches = iter(BatchLoader(Calling(lambda: 0), BATCHES, num_workers=2))
    next(batches)
    for worker in workers():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            os.kill(worker, number)
    assert len(list(batches)) == 14


def test_memory_of_large_batches_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_slots, "_KEPT", 2**26)
    slots = SharedSlots(1, 2**28)
    (slot,) = [slots.take()]
    assert slot is not None
    assert slots.take() is None
    size = 80 * 2**20
    slots.write(slot, [memoryview(bytes(size))], [0])
    view = slots.read(slot, [size], [0])
    assert slots.take() is None
    before = shared_kilobytes()
    del view
    assert slots.take() == slot
    assert before - shared_kilobytes() > 70 * 2**10


def shared_kilobytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssShmem")))
