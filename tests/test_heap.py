"""What becomes of freed memory: in real processes, whose page faults the kernel counts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from solo_family import heap

from .conftest import ROOT

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's own")

# Takes, fills and frees blocks as large as maps: three of 32 MB, in each step, and one of 1.1 GB.
BLOCKS = """
import resource
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    return len([b"x" * 2**25 for _ in range(3)])
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
for _ in range(2):
    step()
before = faults()
for _ in range(2):
    step()
each = (faults() - before) / 2
memory = resident()
large = b"x" * 1100 * 2**20
del large
print(each, resident() - memory)
"""
PAGES = 3 * 32 * 2**20 // 4096


def run(code: str, **variables: str) -> tuple[float, float]:
    """Return the two numbers that a new process prints."""
    environment = {name: value for name, value in os.environ.items() if name not in heap.VARIABLES}
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment | {"OMP_NUM_THREADS": "1"} | variables,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    first, second = map(float, process.stdout.split())
    return first, second


def measure(start: str, **variables: str) -> tuple[float, float]:
    """Return the page faults of a step, and how much a freed large block has left behind."""
    return run(start + BLOCKS, **variables)


def test_a_step_has_the_pages_of_the_step_before() -> None:
    start = "from solo_family.heap import keep_freed_memory; assert keep_freed_memory()"
    faults, left = measure(start)
    assert faults < PAGES / 100
    assert left < 2**28  # what is larger than a GiB is given back


def test_by_itself_a_step_has_new_pages() -> None:
    """Without this, the test above could not fail."""
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if huge.is_file() and "[always]" in huge.read_text(encoding="ascii"):
        pytest.skip("pages are huge, and so few")
    assert measure("")[0] > PAGES / 2


def test_what_is_kept_can_be_given_back() -> None:
    code = """
from solo_family.heap import give_back, keep_freed_memory
keep_freed_memory()
blocks = [b"x" * 2**25 for _ in range(8)]
before = resident()
del blocks
kept = resident()
give_back()
print(before - kept, before - resident())
"""
    start, _, _ = BLOCKS.partition("for _ in range(2):")
    freed, given_back = run(start + code)
    assert freed < 2**25
    assert given_back > 7 * 2**25


def test_what_the_user_has_set_stays() -> None:
    code = "from solo_family.heap import keep_freed_memory; assert not keep_freed_memory()"
    code += "; print(0, 0)"
    run(code, MALLOC_TRIM_THRESHOLD_="100000000")
    run(code, GLIBC_TUNABLES="glibc.malloc.mmap_max=10")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "kept for the next step (glibc's mallopt), up to 1 GiB at the end of the heap"),
        ({"LD_PRELOAD": "libjemalloc.so"}, "kept or given back as LD_PRELOAD=libjemalloc.so says"),
        (
            {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
            "kept or given back as GLIBC_TUNABLES=glibc.malloc.hugetlb=1 says",
        ),
        (
            {"GLIBC_TUNABLES": "glibc.cpu.x86_ibt=on", "LD_PRELOAD": ""},
            "kept for the next step (glibc's mallopt), up to 1 GiB at the end of the heap",
        ),
    ],
)
def test_the_doctor_says_what_becomes_of_it(
    environment: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heap, "_state", "")
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: _Library())
    assert heap.keep_freed_memory(environment) is words.startswith("kept for")
    assert heap.description() == words


class _Library:
    """A C library that takes every setting: that of the tests keeps its own."""

    gnu_get_libc_version = None

    def mallopt(self, number: int, value: int) -> int:
        assert (number, value) in ((-1, heap.KEPT), (-3, heap.KEPT))
        return 1


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_state", "as before")
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: object())
    assert not heap.keep_freed_memory({})
    assert heap.description() == "as before"
