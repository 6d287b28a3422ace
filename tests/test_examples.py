"""The scripts in examples/ run from top to bottom, with fewer iterations."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from .conftest import ROOT

EXAMPLES = ROOT / "examples"
SCRIPT = EXAMPLES / "zero_to_export.py"


def test_every_cell_begins_as_editors_look_for_it() -> None:
    lines = SCRIPT.read_text().splitlines()
    cells = [line for line in lines if line.startswith("# %%")]
    assert set(cells) == {"# %%", "# %% [markdown]"}
    assert lines[0] == cells[0]
    # Within a cell of text every line is a comment: a notebook's Markdown.
    for text in re.findall(r"^# %% \[markdown\]\n(.+?)(?=^# %%)", SCRIPT.read_text(), re.S | re.M):
        assert all(line.startswith("#") for line in text.strip().splitlines())


def run_example(folder: Path, *words: str, **variables: str) -> str:
    """Runs it in a folder, and returns what it prints."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    result = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
def test_from_nothing_to_an_exported_model(tmp_path: Path) -> None:
    printed = run_example(tmp_path, str(SCRIPT), ITERATIONS="4")
    output = tmp_path / "output" / "zero_to_export"
    assert torch.load(output / "model_final.pth", weights_only=False)["iteration"] == 3
    assert "'AP50':" in printed
    assert (output / "exported" / "model.onnx").is_file()
    given = cv2.imread(str(output / "shapes" / "val" / "000001.jpg"))
    for name in ("predicted", "exported"):
        assert np.shape(cv2.imread(str(output / f"{name}.png"))) == given.shape


@pytest.mark.slow
def test_coins_of_one_half_of_a_photograph_from_those_of_the_other(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    printed = run_example(tmp_path, str(EXAMPLES / "coins.py"), "SOLVER.MAX_ITER", "2")
    assert printed.count(": 12 coins") == 2
    assert (tmp_path / "output" / "coins" / "pictures" / "lower_enlarged.png").is_file()
