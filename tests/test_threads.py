"""The number of threads and how they wait: from fake cgroups, and in real processes."""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from solo_family import heap, threads
from solo_family.engine import processes
from solo_family.threads import PIECES, SPINS, cgroup_cpus, description, usable_cores, wanted

from .conftest import ROOT

VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"),
    *("KMP_BLOCKTIME", "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"),
)
V2 = "0::/user.slice/job\n"
V1 = "5:memory:/docker/a1\n4:cpu,cpuacct:/docker/a1\n0::/\n"


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def of_v1(folder: str, quota: int) -> dict[str, str]:
    path = f"sys/fs/cgroup/{folder}/cpu.cfs"
    return {f"{path}_quota_us": f"{quota}\n", f"{path}_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("groups", "files", "cpus"),
    [
        (V2, {"sys/fs/cgroup/user.slice/job/cpu.max": "150000 100000\n"}, 1.5),
        (V2, {"sys/fs/cgroup/user.slice/job/cpu.max": "max 100000\n"}, None),
        # The least of a group's own and of those above it.
        (
            V2,
            {
                "sys/fs/cgroup/user.slice/job/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/user.slice/cpu.max": "100000 50000\n",
            },
            2.0,
        ),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4.0),
        # A container that sees its own group at the mount, but the host's path.
        (V2, {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        (V1, of_v1("cpu,cpuacct/docker/a1", 250000), 2.5),
        (V1, of_v1("cpu/docker/a1", 250000), 2.5),
        (V1, of_v1("cpu", 300000), 3.0),
        (V1, of_v1("cpu,cpuacct/docker/a1", -1), None),
        (V1, {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "?"}, None),
        # Another controller whose name begins alike.
        ("3:cpuset:/a\n", of_v1("cpuset/a", 100000), None),
        ("nonsense\n", {"sys/fs/cgroup/cpu.max": "100000 100000\n"}, None),
        ("", {}, None),
    ],
)
def test_the_cgroups_quota_is_read(
    groups: str, files: dict[str, str], cpus: float | None, tmp_path: Path
) -> None:
    assert cgroup_cpus(write(tmp_path, {"proc/self/cgroup": groups, **files})) == cpus


def machine(
    root: Path, monkeypatch: pytest.MonkeyPatch, cpus: int, *, quota: str = "max", together: int = 1
) -> Path:
    """Return the files of a machine on which a process may use the first CPUs.

    Args:
        root: of the files.
        monkeypatch: sets the affinity.
        cpus: that the affinity allows.
        quota: microseconds in each 100,000.
        together: hardware threads of a core.
    """
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)), raising=False)
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota} 100000\n"}
    for cpu in range(cpus):
        core = cpu // together
        path = f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        files[path] = f"{core * together}-{core * together + together - 1}\n"
    return write(root, files)


@pytest.mark.parametrize(
    ("cpus", "together", "quota", "count"),
    [
        (64, 1, "max", 64),
        (64, 2, "max", 32),
        (1, 2, "max", 1),
        (64, 2, "400000", 4),
        (64, 2, "150000", 2),
        (64, 2, "20000", 1),
        (2, 1, "800000", 2),
    ],
)
def test_cores_are_what_the_process_may_use(
    cpus: int,
    together: int,
    quota: str,
    count: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = machine(tmp_path, monkeypatch, cpus, quota=quota, together=together)
    cores = usable_cores(root)
    assert cores.number == count
    assert f"{cpus} CPUs may be used" in cores.reason
    assert ("the cgroup allows" in cores.reason) is (count < cpus // together or quota == "20000")


def test_without_those_files_each_cpu_is_a_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores(tmp_path).number == 6


CACHE = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(PIECES)}
SPINNING = {"GOMP_SPINCOUNT": str(SPINS)}
SPIN = {**SPINNING, **CACHE}


@pytest.mark.parametrize(
    ("by_user", "chosen"),
    [
        ({}, {"OMP_NUM_THREADS": "8", **SPIN}),
        ({"OMP_NUM_THREADS": "3"}, SPIN),
        ({"MKL_NUM_THREADS": "3"}, SPIN),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_NUM_THREADS": "8", **CACHE}),
        ({"GOMP_SPINCOUNT": "7"}, {"OMP_NUM_THREADS": "8", **CACHE}),
        ({"KMP_BLOCKTIME": "0", "OMP_NUM_THREADS": "1"}, CACHE),
        ({"KMP_BLOCKTIME": "0", "MKL_NUM_THREADS": "1", **dict.fromkeys(CACHE, "5")}, {}),
        ({"DNNL_PRIMITIVE_CACHE_CAPACITY": "0"}, {"OMP_NUM_THREADS": "8", **SPINNING}),
    ],
)
def test_what_the_user_has_set_stays(
    by_user: dict[str, str],
    chosen: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert wanted(by_user, root=machine(tmp_path, monkeypatch, 8)) == chosen


def clear(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        # Set first, so that what the code under test sets is taken back, too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(threads, "_chosen", {})


def test_processes_of_a_run_share_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear(monkeypatch)
    root = machine(tmp_path, monkeypatch, 8)
    threads.choose(root=root)
    assert os.environ["OMP_NUM_THREADS"] == "8"
    threads.choose(processes=3, root=root)
    assert os.environ["OMP_NUM_THREADS"] == "2"
    threads.choose(processes=20, root=root)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    threads.choose(processes=3, root=root)
    assert os.environ["OMP_NUM_THREADS"] == "5"


@pytest.mark.parametrize("by_user", [None, "7"])
def test_the_launcher_splits_them(by_user: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)
    monkeypatch.setattr(threads, "usable_cores", lambda root: threads.Cores(9, ""))
    threads.choose()  # as train_net.py does before
    if by_user is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", by_user)
    seen: list[str] = []
    monkeypatch.setattr(processes, "_check_gpus", lambda args: None)
    monkeypatch.setattr(
        processes, "lead", lambda run, args: seen.append(os.environ["OMP_NUM_THREADS"])
    )
    args = argparse.Namespace(num_gpus=2, num_machines=1, dist_url="auto")
    processes.start(lambda _: None, args)
    assert seen == [by_user or "4"]


def test_the_doctor_says_what_was_chosen_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)
    monkeypatch.setattr(threads, "usable_cores", lambda *_: threads.Cores(3, "a reason"))
    assert description().startswith("as torch chooses, which was imported before; a reason; ")
    threads.choose()
    expected = f"3, since a reason; a waiting one sleeps after {SPINS} turns (GOMP_SPINCOUNT)"
    assert description().startswith(expected)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    expected = "1, as OMP_NUM_THREADS says; they wait as OMP_WAIT_POLICY=passive says"
    assert description() == expected


def run(code: str, **variables: str) -> tuple[str, str]:
    """Return what a new process prints and logs that may use one CPU only."""
    cpu = min(os.sched_getaffinity(0))
    chosen = {*VARIABLES, *heap.VARIABLES}
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    process = subprocess.run(
        [sys.executable, "-c", f"import os, sys; os.sched_setaffinity(0, [{cpu}])\n{code}"],
        cwd=ROOT,
        env={**environment, "OMP_DISPLAY_ENV": "verbose", **variables},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout, process.stderr


@pytest.mark.slow
def test_openmp_has_what_was_chosen() -> None:
    """As the library itself says that is in the process, if it is libgomp."""
    code = "from solo_family.threads import *; choose_before_torch(); import torch"
    code += "; print(torch.get_num_threads())"
    printed, logged = run(code)
    assert printed == "1\n"
    if "GOMP_SPINCOUNT" in logged:
        assert f"GOMP_SPINCOUNT = '{SPINS}'" in logged
    printed, logged = run(code, OMP_NUM_THREADS="2", GOMP_SPINCOUNT="77")
    assert printed == "2\n"
    assert "GOMP_SPINCOUNT" not in logged or "GOMP_SPINCOUNT = '77'" in logged


# Convolves maps of 1,200 widths, one after another, two times over.
WIDTHS = """
import torch
layer = torch.nn.Conv2d(4, 4, 3).requires_grad_(False)
for turn in range(2):
    print("turn", flush=True)
    for width in range(200, 1400):
        layer(torch.zeros(1, 4, 8, width))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    [
        "from solo_family.threads import *; choose_before_torch()",
        "import solo_family; solo_family.ops",
    ],
)
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch lacks oneDNN")
def test_onednn_compiles_for_each_size_once(start: str) -> None:
    """As the library itself says, whose own default is 1,024."""
    printed, _ = run(f"{start}\n{WIDTHS}", ONEDNN_VERBOSE="profile")
    first, second = printed.split("turn\n")[1:]
    assert first.count("create:cache_miss") > 1024
    assert second.count("create:cache_miss") == 0
    assert second.count("create:cache_hit") > 1024


@pytest.mark.slow
@pytest.mark.parametrize("first", ["", "import torch"])
def test_other_peoples_processes_keep_their_environment(first: str) -> None:
    """The front door in Python sets variables while it imports torch, if it is the first to."""
    code = "before = dict(os.environ); import solo_family; solo_family.ops\n"
    code += "assert dict(os.environ) == before; print('torch' in sys.modules)"
    printed, logged = run(f"{first}\n{code}")
    assert printed == "True\n"
    if "GOMP_SPINCOUNT" in logged:
        assert (f"GOMP_SPINCOUNT = '{SPINS}'" in logged) is (not first)


ENTRIES = {
    "train_net.py": "import runpy; runpy.run_path('train_net.py', run_name='__main__')",
    "verbs": "sys.argv[1:] = ['doctor']; import runpy\n"
    "runpy.run_module('solo_family', run_name='__main__')",
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_programs_choose_before_anything_imports_torch(entry: str) -> None:
    code = (
        "from solo_family import heap, starting\n"
        "def load(name):\n"
        "    assert heap.description().startswith('kept for the next step')\n"
        "    assert not {'torch', 'numpy'} & set(sys.modules)\n"
        "    print(name, os.environ['OMP_NUM_THREADS'], os.environ['GOMP_SPINCOUNT'])\n"
        "    sys.exit(0)\n"
        f"starting.load = load\n{ENTRIES[entry]}"
    )
    printed, _ = run(code)
    assert printed.split()[1:] == ["1", str(SPINS)]
