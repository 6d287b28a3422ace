"""Triton's kernels compiled by Triton's own assembler for GPUs, without one: what they need there.

The functions that launch kernels run as they are, with their own configurations of launches.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from solo_family.ops.gpu_kernels import TRITON

from ..conftest import ROOT

MOST_REGISTERS = 208
# How many variants of a kernel there are for one dtype, whatever the sizes, where it isn't one.
VARIANTS = {
    "_decay_kernel": 2,  # gaussian and linear
    "_pack_kernel": 2,  # masks that begin at whole vectors, or anywhere
    "_decode_kernel": 2,  # features read in vectors, or one by one
}
# Operators whose kernels one process compiles.
JOBS = (
    ("decode", "group_norm", "windows", "paste"),
    ("pack", "resize", "nms", "resize_maps", "normalise", "max_pool"),
)
assert sorted(operator for job in JOBS for operator in job) == sorted(TRITON)

Rows = list[dict[str, Any]]


@pytest.fixture(
    scope="module",
    params=[80, 90, 100],
)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What `compile_kernels.py` prints; two processes, of about as much to do."""
    return compile_for(request.param, tmp_path_factory)


def compile_for(
    arch: int, folders: pytest.TempPathFactory, jobs: Sequence[Sequence[str]] = JOBS
) -> Rows:
    processes = []
    for operators in jobs:
        environment = os.environ | {
            "TRITON_INTERPRET": "0",
            "TRITON_CACHE_DIR": str(folders.mktemp("cache")),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        words = [sys.executable, "tests/ops/compile_kernels.py", str(arch), *operators]
        processes.append(
            subprocess.Popen(
                words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        )
    rows = []
    for process in processes:
        printed, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
        rows += json.loads(printed)
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("operator", TRITON)
def test_no_spills_and_few_registers(operator: str, compiled: Rows) -> None:
    rows = [row for row in compiled if row["operator"] == operator]
    assert rows
    assert all(row["registers"] > 0 for row in rows)
    large = [
        row for row in rows if row["stack"] or row["local"] or row["registers"] > MOST_REGISTERS
    ]
    assert not large


@pytest.mark.slow
@pytest.mark.parametrize("operator", TRITON)
def test_one_variant_whatever_the_sizes(operator: str, compiled: Rows) -> None:
    rows = [row for row in compiled if row["operator"] == operator and row["many_sizes"]]
    counts = Counter(row["kernel"] for row in rows)
    assert counts
    many = {kernel: count for kernel, count in counts.items() if count > VARIANTS.get(kernel, 1)}
    assert not many, [row["specialised"] for row in rows if row["kernel"] in many]


@pytest.mark.slow
def test_decoding_on_an_older_gpu(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its products are of single numbers, which need more registers than those of tensor cores."""
    rows = compile_for(75, tmp_path_factory, [["decode"]])
    assert rows
    assert not [row for row in rows if row["stack"] or row["local"] or row["registers"] > 208]


@pytest.mark.slow
def test_a_spill_is_seen(tmp_path: Path) -> None:
    """A kernel that needs more registers than it may have, compiled in the same way."""
    code = f"""
import sys
sys.path.insert(0, "tests/ops")
sys.path.insert(0, {str(tmp_path)!r})
from offline_driver import OfflineDriver
import torch
from spilling import spill
driver = OfflineDriver(80).install()
spill[(1,)](torch.zeros(1), torch.zeros(1), SIZE=4096, num_warps=1, maxnreg=32)
print(driver.compiled[0].resources())
"""
    (tmp_path / "spilling.py").write_text(
        "import triton\nimport triton.language as tl\n\n\n@triton.jit\n"
        "def spill(source, target, SIZE: tl.constexpr):\n"
        "    place = tl.arange(0, SIZE)\n"
        "    x = tl.load(source + place)\n"
        "    tl.store(target + place, x * tl.sum(x, axis=0))\n"
    )
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    needs = json.loads(process.stdout.replace("'", '"'))
    assert needs["registers"] <= 32
    assert needs["stack"] + needs["local"] > 0
