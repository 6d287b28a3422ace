"""`make demo`, in real processes; the full one takes minutes."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..conftest import ROOT

pytestmark = pytest.mark.slow


def quickstart(output: Path, *opts: str) -> list[str]:
    return [
        *(sys.executable, "-m", "solo_family", "quickstart", "--output", str(output)),
        *("--opts", *opts),
    ]


def test_a_new_user_gets_a_model_that_segments(tmp_path: Path) -> None:
    result = subprocess.run(quickstart(tmp_path), cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    ap = re.search(r"segm AP (\d+\.\d) on", result.stdout)
    assert ap is not None
    assert float(ap[1]) >= 40
    assert len(list((tmp_path / "solov2" / "pictures").iterdir())) == 12
    assert "eta:" in result.stdout + result.stderr


def test_after_ctrl_c_the_same_command_goes_on(tmp_path: Path) -> None:
    short = ("SOLVER.MAX_ITER", "8", "SOLVER.STEPS", "(6,)", "SOLVER.CHECKPOINT_PERIOD", "2")
    checkpoint = tmp_path / "solov2" / "model_0000003.pth"
    process = subprocess.Popen(
        quickstart(tmp_path, *short), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 200
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"The same command goes on" in output

    again = subprocess.run(quickstart(tmp_path, *short), cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "Starting training from iteration 0" not in again.stdout
    assert re.search(r"Starting training from iteration [4-7]", again.stdout)
    assert "segm AP" in again.stdout
