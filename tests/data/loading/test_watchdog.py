"""What this process waits for ends, too: interrupted, or with the process."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from solo_family.__main__ import main as solo_family
from solo_family.data.checks.dataset_check import check_coco_dataset
from solo_family.data.loading import images, watchdog
from solo_family.data.loading.batch_loader import BatchLoader
from solo_family.data.loading.watchdog import Waited, Watchdog, watched
from solo_family.errors import TrainingError

from ...coco_folder import small_dataset
from ...forked import Forked


class Stuck:
    """Hangs for key 3."""

    def __getitem__(self, key: int) -> int:
        if key == 3:
            sleep_for_ever()
        return key


def sleep_for_ever() -> None:
    time.sleep(1000)


def test_a_batch_of_this_process_ends_with_the_place() -> None:
    before = signal.getsignal(signal.SIGALRM)
    loader = BatchLoader(Stuck(), [[1], [3]], timeout=0.4)
    batches = iter(loader)
    assert next(batches) == [1]
    time.sleep(0.6)  # what is done with a batch does not count
    with pytest.raises(TrainingError, match=r"more than 0.4 s \(DATALOADER.TIMEOUT\)") as error:
        next(batches)
    assert str(error.value).endswith("in sleep_for_ever.")
    assert "\n" not in str(error.value)
    assert signal.getsignal(signal.SIGALRM) == before
    time.sleep(0.2)  # nothing comes later


def test_what_goes_on_is_left_alone() -> None:
    items = watched(range(4), "A number", 0.4)
    for _ in items:
        time.sleep(0.15)
    with Watchdog(0, "Nothing"), Watchdog(0.1, "In another"):
        time.sleep(0.05)
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("watchdog") == 1  # one for all that is watched


def test_the_outer_one_rules() -> None:
    with Watchdog(60, "All"), Watchdog(0.1, "A part"):
        time.sleep(0.3)


def read_in_compiled_code() -> None:
    """Waits where signals raise nothing, as a read from a network drive does."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    sleep_for_ever()


def guarded(words: list[str]) -> int:
    with Watchdog(0.3, "Reading cät.png"):
        read_in_compiled_code()
    return 0


def test_what_can_t_be_interrupted_ends_with_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "_GRACE", 0.2)
    with Forked(guarded, [], tmp_path) as run:
        message = run.error(20)
    assert message.startswith("Reading c")
    assert message.endswith("in sleep_for_ever.")


def test_time_in_which_the_process_was_stopped_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0.0, 1.0, 1000.0, 1001.5])
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: next(clock))
    waited = Waited()
    assert [waited.seconds() for _ in range(3)] == [1.0, 3.0, 4.5]


def test_a_picture_that_hangs_ends_a_check_of_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small_dataset(tmp_path)
    monkeypatch.setattr(images, "_opened", lambda _: sleep_for_ever())
    with pytest.raises(TrainingError, match=r"^An image has taken more than 0.3 s"):
        check_coco_dataset(str(data.json), f"{tmp_path}/images", timeout=0.3)


def hang(limit: float, *modules: Any) -> Callable[[], None]:
    def before() -> None:
        for module in modules:
            module.TIMEOUT = limit

    return before


def test_a_picture_that_hangs_ends_a_demo(tmp_path: Path) -> None:
    from solo_family.cli import inputs

    os.mkfifo(tmp_path / "pipe")
    words = ["demo", "--config-file", "none.yaml", "--input", tmp_path / "pipe"]
    with Forked(solo_family, words, tmp_path, hang(0.3, inputs)) as run:
        assert run.error(20).startswith("A file has taken more than 0.3 s")


@pytest.mark.skipif(sys.platform == "win32", reason="it has no signals")
def test_an_error_that_is_caught_inside_ends_the_process(tmp_path: Path) -> None:
    def main(words: list[str]) -> int:
        watchdog._GRACE = 0.2
        with Watchdog(0.3, "Loading"):
            while True:
                try:
                    sleep_for_ever()
                except TrainingError:
                    continue

    with Forked(main, [], tmp_path) as run:
        assert run.error(20).startswith("Loading has taken")
