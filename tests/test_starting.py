"""What comes before the imports: limits in one line, and detectron2 whole under `python -OO`."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from solo_family.__main__ import main
from solo_family.errors import ConfigError
from solo_family.registry import OWN_CODE, import_own_code
from solo_family.starting import load, no_room

from .conftest import ROOT

DETECTRON2 = '''"""A package."""
assert __doc__ + "more"
refused = False
try:
    assert False
except AssertionError:
    refused = True
'''


@pytest.mark.parametrize("level", ["0", "1", "2"])
def test_detectron2_keeps_asserts_and_docstrings(tmp_path: Path, level: str) -> None:
    """A package of that name in its place: the real one is imported by the slow tests."""
    (tmp_path / "detectron2").mkdir()
    (tmp_path / "detectron2" / "__init__.py").write_text(DETECTRON2)
    (tmp_path / "other.py").write_text(DETECTRON2.replace("assert __doc__", "0 and __doc__"))
    script = (
        "import solo_family, detectron2, other, sys;"
        "assert detectron2.__file__.startswith(sys.path[1]), detectron2.__file__;"
        "print(detectron2.refused, bool(detectron2.__doc__), other.refused)"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    for _ in range(2):  # no compiled file of the first stands in for the second
        process = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": path, "PYTHONOPTIMIZE": level},
            capture_output=True,
            text=True,
        )
        assert process.stderr == ""
        assert process.stdout == f"True True {level == '0'}\n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImportError("libtorch.so: failed to map segment from shared object"), "ulimit -v"),
        (MemoryError(), "ulimit -v"),
        (OSError(24, "Too many open files"), "ulimit -n"),
        (ImportError("libtorch.so: cannot open shared object file: Too many open files"), "-n"),
        (ImportError("No module named 'torch'"), ""),
        (OSError(2, "No such file"), ""),
    ],
)
def test_limits_are_told_from_other_errors(error: Exception, words: str) -> None:
    found = no_room(error)
    assert bool(found) == bool(words)
    assert words in found
    assert "\n" not in found


def test_ctrl_c_during_the_imports_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupt)
    with pytest.raises(SystemExit) as ended:
        load("solo_family.engine.main")
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Stopped by SIGINT: nothing was begun.\n"


@pytest.mark.parametrize("command", ["train_net.py", "-m solo_family doctor"])
def test_too_few_addresses_are_one_line(command: str) -> None:
    process = subprocess.run(
        ["bash", "-c", f"ulimit -v 300000; exec {sys.executable} {command}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    warning, error = process.stderr.splitlines()
    assert warning.startswith("ulimit -v allows 292 MB of addresses.")
    assert error.startswith("error: There is not enough memory to load torch (")


def test_own_code_is_imported_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_first.py").write_text("value = 1\n")
    (tmp_path / "own_second.py").write_text("import own_first\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(OWN_CODE, "own_second, own_first")
    import_own_code()
    assert sys.modules["own_second"].own_first.value == 1
    monkeypatch.delenv(OWN_CODE)
    import_own_code()


def test_own_code_that_is_missing_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_third.py").write_text("import what_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(OWN_CODE, "own_fourth.part")
    with pytest.raises(ConfigError, match="names the module own_fourth"):
        import_own_code()
    assert main(["analyze"]) == 2
    assert "own_fourth" in capsys.readouterr().err
    # An import that the user's own module lacks is told by Python.
    monkeypatch.setenv(OWN_CODE, "own_third")
    with pytest.raises(ModuleNotFoundError, match="what_is_not_there"):
        import_own_code()
