"""The commands of a page of docs, run as they stand there, in one fork of this process."""

import os
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .forked import Forked

_LIMIT = 1200  # seconds


def sh_commands(*texts: str) -> list[list[str]]:
    """Return all commands of a page, or of parts of it, in order."""
    blocks = [block for text in texts for block in re.findall(r"```sh\n(.+?)```", text, re.S)]
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines]


def walk(
    commands: Sequence[list[str]], folder: Path, before: Callable[[], Any] | None = None
) -> str:
    """Run commands of Python in a folder, and return what they print.

    Importing torch for each would take most of the time.
    """

    def run(_: list[str]) -> int:
        os.chdir(folder)
        for words in commands:
            print("===", *words, flush=True)
            _run(words)
        return 0

    with Forked(run, [], folder, before) as process:
        assert process.status(_LIMIT) == 0, process.printed[-5000:]
        return process.printed


def _run(words: list[str]) -> None:
    assert words[0] == "python"
    try:
        if words[1] == "-c":
            exec(words[2], {})
        elif words[1] == "-m":
            sys.argv = words[2:]
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words[1:]
            runpy.run_path(words[1], run_name="__main__")
    except SystemExit as end:
        if end.code:
            sys.exit(f"exit status {end.code} of {words}")
