"""The real commands, started with few or odd environment variables."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from solo_family.engine.main import main as train_net

from ..conftest import ROOT
from ..forked import Forked
from .test_environment import words_in
from .test_resume import assert_equal

_CACHES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "TORCH_HOME")
# What is set beside PATH, and what is done with the standard streams.
ENVIRONMENTS: dict[str, tuple[dict[str, str], str]] = {
    "nothing": ({}, ""),
    "no asserts, no docstrings": ({"PYTHONOPTIMIZE": "2"}, ""),
    "ASCII": ({"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}, ""),
    "no caches": (dict.fromkeys((*_CACHES, "FVCORE_CACHE", "IOPATH_CACHE"), "/dev/null"), ""),
    "no temporary folder": ({"TMPDIR": "/nonexistent"}, ""),
    "no streams": ({}, "<&- >&- 2>&-"),
    "a reader that goes": ({}, "2>&1 | head -n 1"),
}


def run_in(environment: str, *words: Any) -> subprocess.CompletedProcess[str]:
    """Runs Python with these words in an environment of the table."""
    variables, streams = ENVIRONMENTS[environment]
    command = shlex.join([sys.executable, *map(str, words)])
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} {streams}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], dict[str, Any]]:
    """The words of a run, and its end here."""
    root = tmp_path_factory.mktemp("whole")
    words = words_in(root, "DATALOADER.NUM_WORKERS", 1)
    with Forked(train_net, words, root) as run:
        assert run.status() == 0, run.printed
    return words, torch.load(root / "run" / "model_final.pth", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_training_and_a_demo_are_the_same_in_it(
    tmp_path: Path, whole: tuple[list[Any], dict[str, Any]], environment: str
) -> None:
    words, expected = whole
    output, drawn = tmp_path / "rün", tmp_path / "gemält"
    process = run_in(environment, "train_net.py", *words, "OUTPUT_DIR", output)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "Traceback" not in process.stdout + process.stderr
    assert_equal(torch.load(output / "model_final.pth", weights_only=True), expected)
    pictures = Path(str(words[1])).parent / "dätä" / "images"
    demo = ["demo", "--config-file", output / "config.yaml", "--input", pictures]
    opts = ["--output", drawn, "--opts", "MODEL.WEIGHTS", output / "model_final.pth"]
    process = run_in(environment, "-m", "solo_family", *demo, *opts)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "Traceback" not in process.stdout + process.stderr
    assert sorted(path.name for path in drawn.iterdir()) == [f"{index}ü.png" for index in range(4)]
