"""What the machine has, the doctor's checks, and which kernels are used."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

import torch

from solo_family.cli.checks import BROKEN, all_checks
from solo_family.ops import gpu_kernels

from . import rows, settings


def run() -> None:
    _machine()
    for kernel in gpu_kernels.TRITON:
        _self_check(kernel)
    for kernel in gpu_kernels.CUDA:
        if settings.on_gpu():
            _self_check(kernel)
        else:
            rows.add(f"self-check of {kernel}", note="needs a GPU")
    for check in all_checks(Path("output")):
        note = f"{check.status}: {check.found} {check.remedy}".strip()
        rows.add(f"doctor: {check.name}", check.status != BROKEN, note=note)


def _machine() -> None:
    name = torch.cuda.get_device_name() if settings.on_gpu() else "CPU"
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}, Python"
    triton = importlib.metadata.version("triton")
    rows.add(name, note=f"{versions} {platform.python_version()}, triton {triton}")
    rows.add("CPU cores", value=os.cpu_count() or 0)
    compiler = shutil.which("gcc") or shutil.which("clang")
    rows.add("C compiler for Triton's launcher", compiler is not None, note=compiler or "none")
    if settings.on_gpu():
        memory = torch.cuda.get_device_properties(0).total_memory
        rows.add("memory of the GPU", value=memory / 2**30, unit="GiB")


def _self_check(kernel: str) -> None:
    device = torch.device("cuda", 0) if settings.on_gpu() else torch.device("cpu")
    with rows.case(f"self-check of {kernel}"):
        why = gpu_kernels.failure(kernel, device)
        rows.add(f"self-check of {kernel}", why is None, note=why or "used")
