"""How many threads torch computes with, and how they wait, chosen before torch is imported.

By itself torch starts a thread per core of the machine, although a container may allow fewer. In
torch's wheels a thread that waits for the others spins for milliseconds (libgomp's `GOMP_SPINCOUNT`
of 300,000). When another process has a core, the threads at a barrier wait for one that does not
run, and the spinning ones take the time that it needs.

oneDNN, with which torch convolves on a CPU, compiles code for every layer at every input size, and
keeps the last 1,024 pieces. A training step with its gradients needs some 500 of them: where sizes
change from batch to batch, it would compile much of its code again in every iteration.

Nothing here imports torch or numpy.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path, PurePosixPath
from typing import NamedTuple

NUMBER = "OMP_NUM_THREADS"
SPIN = "GOMP_SPINCOUNT"
CACHE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
# torch takes its number of threads from the first of these that is set.
_NUMBERS = (NUMBER, "MKL_NUM_THREADS")
# Each of them says how threads wait: libgomp's own, OpenMP's, and that of Intel's and LLVM's.
_WAITS = (SPIN, "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
# Fewer turns cost an idle machine more than 2 % of the time, more turns a busy one: the table that
# python -m benchmarks.busy --spins 300 1000 10000 prints is in docs/performance.md.
SPINS = 3000
# oneDNN still reads its older name. A piece takes less than 0.1 MB.
_CACHES = (CACHE, "DNNL_PRIMITIVE_CACHE_CAPACITY")
PIECES = 8192
# What is chosen, or keeps something from being chosen.
VARIABLES = (*_NUMBERS, *_WAITS, *_CACHES)

_ROOT = Path("/")
_CGROUPS = PurePosixPath("sys/fs/cgroup")
# The variables that were set here, and not by the user.
_chosen: dict[str, str] = {}


class Cores(NamedTuple):
    """How many CPU cores this process may use.

    Attributes:
        number: at least 1.
        reason: a phrase.
    """

    number: int
    reason: str


def usable_cores(root: Path = _ROOT) -> Cores:
    """Return the cores that the affinity and the cgroups of this process allow.

    Two hardware threads of one core count once. A quota that is no whole number is rounded up: the
    last thread uses what is left of it.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    cpus = affinity()
    physical = len({_siblings(cpu, root) for cpu in cpus})
    reason = f"{len(cpus)} CPUs may be used"
    if physical < len(cpus):
        reason += f", which are {physical} cores"
    quota = cgroup_cpus(root)
    if quota is None or ceil(quota) > physical:
        return Cores(physical, reason)
    return Cores(max(1, ceil(quota)), f"{reason}; the cgroup allows the time of {quota:g}")


def affinity() -> set[int]:
    """Return the numbers of the CPUs that this process may run on."""
    of_process = getattr(os, "sched_getaffinity", None)  # Linux's
    return of_process(0) if of_process else set(range(os.cpu_count() or 1))


def _siblings(cpu: int, root: Path) -> str:
    """Return what the hardware threads of a core have in common."""
    try:
        path = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return str(cpu)


def cgroup_cpus(root: Path = _ROOT) -> float | None:
    """Return the CPU time per time that the cgroups allow, of version 1 or 2; None for no limit."""
    try:
        lines = (
            (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
        )
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "-", "")
        if not controllers:
            quotas += [_quota_2(root / folder) for folder in _with_parents(_CGROUPS, path)]
        elif "cpu" in controllers.split(","):
            for mount in {controllers, "cpu"}:
                folders = _with_parents(_CGROUPS / mount, path)
                quotas += [_quota_1(root / folder) for folder in folders]
    return min((quota for quota in quotas if quota), default=None)


def _with_parents(mount: PurePosixPath, path: str) -> list[PurePosixPath]:
    """Return a group's folder and those above it.

    In a container the path may be the host's: then only the mount itself exists, which is the
    container's own group.
    """
    folder = mount / path.strip("/")
    return [folder, *(above for above in folder.parents if above.is_relative_to(mount))]


def _quota_2(folder: Path) -> float | None:
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    return None


def _quota_1(folder: Path) -> float | None:
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (
            int((folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii"))
            for name in ("quota", "period")
        )
        return quota / period if quota > 0 else None
    return None


def choose(processes: int = 1, root: Path = _ROOT) -> None:
    """Set the environment variables for torch's threads, but for those that the user has set.

    The loader's workers have one thread each and are not subtracted: on a CPU they compute little
    beside the training, and on a GPU the training computes little on the CPU.

    Args:
        processes: that compute on this machine, and share its cores.
        root: the folder that holds `proc` and `sys`.
    """
    for name, value in wanted(_by_user(), processes, root).items():
        os.environ[name] = _chosen[name] = value


def choose_before_torch() -> None:
    """Call `choose`, unless torch has been imported, which has read the variables by then."""
    if "torch" not in sys.modules:
        choose()


def wanted(by_user: Mapping[str, str], processes: int = 1, root: Path = _ROOT) -> dict[str, str]:
    """Return the variables to set.

    Args:
        by_user: the environment without what was set here.
        processes: that share the cores.
        root: the folder that holds `proc` and `sys`.
    """
    variables = {}
    if not any(name in by_user for name in _NUMBERS):
        variables[NUMBER] = str(max(1, usable_cores(root).number // processes))
    if not any(name in by_user for name in _WAITS):
        variables[SPIN] = str(SPINS)
    if not any(name in by_user for name in _CACHES):
        variables[CACHE] = str(PIECES)
    return variables


def number_is_chosen() -> bool:
    """Return whether the number of threads was chosen here, and not by the user."""
    return NUMBER in _chosen and not any(name in _by_user() for name in _NUMBERS)


def _by_user() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if _chosen.get(name) != value}


@contextmanager
def while_importing() -> Iterator[None]:
    """Import torch with chosen variables in the `with` block, and then take them back.

    For code in other people's processes, whose own child processes would inherit the variables.
    Nothing happens if torch has been imported.
    """
    if "torch" in sys.modules:
        yield
        return
    variables = wanted(os.environ)
    os.environ.update(variables)
    try:
        import torch

        torch.get_num_threads()  # MKL reads the number when it is first asked for it
        if torch.backends.mkldnn.is_available():  # oneDNN reads it when it first does something
            torch.ones(1).to_mkldnn().to_dense()
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)


def description() -> str:
    """Return how many threads were chosen, how they wait, and why."""
    by_user = _by_user()
    return f"{_number_in_words(by_user)}; {_wait_in_words(by_user)}"


def _number_in_words(by_user: Mapping[str, str]) -> str:
    for name in _NUMBERS:
        if name in by_user:
            return f"{by_user[name]}, as {name} says"
    cores = usable_cores()
    if NUMBER in _chosen:
        return f"{_chosen[NUMBER]}, since {cores.reason}"
    return f"as torch chooses, which was imported before; {cores.reason}"


def _wait_in_words(by_user: Mapping[str, str]) -> str:
    for name in _WAITS:
        if name in by_user:
            return f"they wait as {name}={by_user[name]} says"
    if SPIN in _chosen:
        return (
            f"a waiting one sleeps after {_chosen[SPIN]} turns ({SPIN}), so that another process "
            "gets its core"
        )
    return "a waiting one keeps its core for milliseconds"
