"""`make demo`, in real processes; the full one takes minutes."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from solo_family.cli.quickstart import _headline

from ..conftest import ROOT


def quickstart(output: Path, *opts: str) -> list[str]:
    return [
        *(sys.executable, "-m", "solo_family", "quickstart", "--output", str(output)),
        *("--opts", *opts),
    ]


@pytest.mark.slow
def test_a_new_user_gets_a_model_that_segments(tmp_path: Path) -> None:
    result = subprocess.run(quickstart(tmp_path), cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    ap = re.search(r"segm AP (\d+\.\d) on", result.stdout)
    assert ap is not None
    assert float(ap[1]) >= 40
    assert len(list((tmp_path / "solov2" / "pictures").iterdir())) == 12
    assert "eta:" in result.stdout + result.stderr


@pytest.mark.slow
def test_after_ctrl_c_the_same_command_goes_on(tmp_path: Path) -> None:
    short = ("SOLVER.MAX_ITER", "8", "SOLVER.STEPS", "(6,)", "SOLVER.CHECKPOINT_PERIOD", "2")
    checkpoint = tmp_path / "solov2" / "model_0000003.pth"
    output = tmp_path / "output.txt"
    with output.open("w") as file:  # a pipe that nobody reads would stop the process when full
        process = subprocess.Popen(
            quickstart(tmp_path, *short), cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + 200
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert "The same command goes on" in output.read_text()

    again = subprocess.run(quickstart(tmp_path, *short), cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "Starting training from iteration 0" not in again.stdout
    assert re.search(r"Starting training from iteration [4-7]", again.stdout)
    assert "segm AP" in again.stdout


def test_the_metric_that_is_named_is_the_methods() -> None:
    proposals = {"AR@10": 10.0, "AR@100": 34.56}
    assert _headline({"proposals": proposals}) == "proposals AR@100 34.6"
    assert _headline({"proposals": proposals, "segm": {"AP": 12.0}}) == "segm AP 12.0"


@pytest.mark.slow
def test_proposals_have_a_quick_start_too(tmp_path: Path) -> None:
    config = str(ROOT / "configs" / "quickstart" / "instance_fcn.yaml")
    words = quickstart(tmp_path, "SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "()")
    result = subprocess.run(
        [*words[:4], "--config-file", config, *words[4:]], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert re.search(r"proposals AR@100 \d+\.\d on", result.stdout)
    assert len(list((tmp_path / "instance_fcn" / "pictures").iterdir())) == 12
