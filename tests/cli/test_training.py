"""A training in a process of its own ends as that process does, and gets the first signal."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from solo_family.cli import training
from solo_family.stopping import Signals

# Stands for train_net.py: it writes a file when it is ready, and another at its end.
PROGRAM = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[2])
def end(number, frame):
    (folder / "checkpoint").write_text(str(number))
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, end)
(folder / "ready").touch()
time.sleep(60)
"""


def test_the_status_is_that_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_PROGRAM", "import sys; sys.exit(int(sys.argv[2]))")
    assert training.run_training(["0"]) == 0
    assert training.run_training(["2"]) == 2


def test_a_signal_is_passed_on_and_the_checkpoint_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training, "_PROGRAM", PROGRAM)

    def stop() -> None:
        for _ in range(600):
            if (tmp_path / "ready").exists():
                break
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    with Signals() as signals:
        assert training.run_training([str(tmp_path)]) == 128 + signal.SIGTERM
    assert signals.asked == signal.SIGTERM
    assert (tmp_path / "checkpoint").read_text() == str(int(signal.SIGTERM))
