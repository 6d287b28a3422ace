"""Printing never ends a program."""

import os
import subprocess
import sys

import pytest

from .conftest import ROOT

PRINTING = """
import sys
from solo_family.console import outlive_readers

outlive_readers()
for number in range(3000):
    print(f"line {number} with \\u00fc", flush=number % 2 == 0)
sys.stderr.write("went on\\n")
"""


@pytest.mark.parametrize("how", ["| head -n 1", ">&-", "> /dev/full", "> /dev/null"])
def test_it_goes_on_without_a_reader(how: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    process = subprocess.run(
        ["bash", "-c", f'set -o pipefail; {sys.executable} -c "$0" {how}', PRINTING],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 0
    assert process.stderr == "went on\n"
    assert process.stdout in ("", "line 0 with \\xfc\n")
