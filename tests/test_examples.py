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

SCRIPT = ROOT / "examples" / "zero_to_export.py"


def test_every_cell_begins_as_editors_look_for_it() -> None:
    lines = SCRIPT.read_text().splitlines()
    cells = [line for line in lines if line.startswith("# %%")]
    assert set(cells) == {"# %%", "# %% [markdown]"}
    assert lines[0] == cells[0]
    # Within a cell of text every line is a comment: a notebook's Markdown.
    for text in re.findall(r"^# %% \[markdown\]\n(.+?)(?=^# %%)", SCRIPT.read_text(), re.S | re.M):
        assert all(line.startswith("#") for line in text.strip().splitlines())


@pytest.mark.slow
def test_from_nothing_to_an_exported_model(tmp_path: Path) -> None:
    environment = {**os.environ, "ITERATIONS": "4", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    output = tmp_path / "output" / "zero_to_export"
    assert torch.load(output / "model_final.pth", weights_only=False)["iteration"] == 3
    assert "'AP50':" in result.stdout
    assert (output / "exported" / "model.onnx").is_file()
    given = cv2.imread(str(output / "shapes" / "val" / "000001.jpg"))
    for name in ("predicted", "exported"):
        assert np.shape(cv2.imread(str(output / f"{name}.png"))) == given.shape
