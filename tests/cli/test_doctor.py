"""The doctor, on this machine, and on one where something is missing."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from solo_family import METHODS
from solo_family.__main__ import main
from solo_family.cli import checks
from solo_family.cli.checks import BROKEN, GOOD, LACKING, Check, all_checks
from solo_family.ops import gpu_kernels
from solo_family.ops.gpu_kernels import CUDA, TRITON

from ..conftest import ROOT


def test_all_that_is_needed_works_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--output", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("ok ")]
    for name in (*METHODS, "torch", "detectron2", "torchvision's operators", "writing to"):
        assert any(name in line for line in lines), name
    for kernel in (*TRITON, *CUDA):
        assert any(f"kernel {kernel} on" in line for line in lines), kernel
    assert "All that is needed works" in printed
    assert list(tmp_path.iterdir()) == []


def kernel_checks(device: str, choice: str, monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """What the doctor says on a machine with one CPU or GPU."""
    monkeypatch.setenv("SOLO_FAMILY_KERNELS", choice)
    monkeypatch.setattr(gpu_kernels, "_failures", {})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(device == "cuda:0"))
    return list(checks._kernels())


def pretend(monkeypatch: pytest.MonkeyPatch, broken: str = "") -> list[str]:
    """Checks of kernels that all pass but one; the names of those that are done."""
    launched: list[str] = []

    def check(name: str) -> None:
        launched.append(name)
        if name == broken:
            raise RuntimeError("no kernel image is available")

    pretended = {name: lambda device, name=name: check(name) for name in (*TRITON, *CUDA)}
    monkeypatch.setattr(gpu_kernels, "CHECKS", pretended)
    monkeypatch.setattr(gpu_kernels, "_run_check", lambda check, device: check(device))
    return launched


def test_every_kernel_is_launched_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = pretend(monkeypatch, broken="decode")
    variable, *found = kernel_checks("cuda:0", "auto", monkeypatch)
    assert (variable.name, variable.status, variable.found) == ("SOLO_FAMILY_KERNELS", GOOD, "auto")
    assert launched == [*TRITON, *CUDA]
    for check, kernel in zip(found, launched, strict=True):
        assert check.name == f"kernel {kernel} on cuda:0"
        assert check.found.startswith("not used" if kernel == "decode" else "used: compiled")
        assert check.status == (LACKING if kernel == "decode" else GOOD)
        assert ("no kernel image is available" in check.remedy) is (kernel == "decode")


def test_a_kernel_that_must_be_used_and_fails_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, broken="pack")
    status = {check.name: check.status for check in kernel_checks("cuda:0", "triton", monkeypatch)}
    assert status["kernel pack on cuda:0"] == BROKEN
    assert status["kernel nms on cuda:0"] == GOOD


@pytest.mark.parametrize(
    ("device", "choice", "why"),
    [("cpu", "auto", "not used on this CPU"), ("cuda:0", "torch", "SOLO_FAMILY_KERNELS is torch")],
)
def test_where_no_kernel_is_used_none_is_launched(
    device: str, choice: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = pretend(monkeypatch)
    _, *found = kernel_checks(device, choice, monkeypatch)
    assert len(found) == len((*TRITON, *CUDA))
    assert all(check.status == GOOD and why in check.found for check in found)
    assert launched == []


def test_the_variable_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not set" in kernel_checks("cpu", "", monkeypatch)[0].found
    (check,) = kernel_checks("cpu", "fast", monkeypatch)
    assert check.status == BROKEN
    assert "'fast'" in check.found
    assert "auto, torch, triton" in check.found


def test_a_folder_that_can_t_be_written_to_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "METHODS", {})
    file = tmp_path / "file"
    file.write_text("")
    found = {check.name: check for check in all_checks(file / "runs")}
    check = found[f"writing to {file}/runs"]
    assert check.status == BROKEN
    assert "OUTPUT_DIR" in check.remedy


@pytest.mark.slow
def test_what_is_missing_is_said_with_its_remedy(tmp_path: Path) -> None:
    """A shapely that is broken, and no onnxruntime, as a process finds them."""
    for name in ("shapely", "onnxruntime"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('this one is broken')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + (
        "from pathlib import Path\n"
        "from solo_family.cli import checks\n"
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
