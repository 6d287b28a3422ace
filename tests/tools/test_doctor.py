"""The doctor, on this machine, and on one where something is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from solo_family import METHODS
from solo_family.__main__ import main
from solo_family.tools.checks import BROKEN, GOOD, LACKING, all_checks

from ..conftest import ROOT


def test_all_that_is_needed_works_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--output", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("ok ")]
    for name in (*METHODS, "torch", "detectron2", "torchvision's operators", "writing to"):
        assert any(name in line for line in lines), name
    assert "All that is needed works" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_t_be_written_to_is_found(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    checks = {check.name: check for check in all_checks(file / "runs")}
    check = checks[f"writing to {file}/runs"]
    assert check.status == BROKEN
    assert "OUTPUT_DIR" in check.remedy


def test_what_is_missing_is_said_with_its_remedy(tmp_path: Path) -> None:
    """A shapely that is broken, and no onnxruntime, as a process finds them."""
    for name in ("shapely", "onnxruntime"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('this one is broken')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + (
        "from pathlib import Path\n"
        "from solo_family.tools import checks\n"
        "checks.METHODS = {}\n"
        f"for check in checks.all_checks(Path({str(tmp_path)!r})):\n"
        "    print(check.name, check.status, check.found, check.remedy, sep='|')\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = process.stdout.splitlines()
    assert f"shapely|{BROKEN}|this one is broken|pip install shapely" in lines
    expected = "exported models don't run: pip install 'solo-family[export]'"
    assert f"onnxruntime|{LACKING}|this one is broken|{expected}" in lines
    assert any(line.startswith(f"torch|{GOOD}|") for line in lines)
