"""The rows of a run: a file of JSON lines, to which every stage appends as it finds something."""

from __future__ import annotations

import json
import math
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

# Names of environment variables: the file, and the stage whose rows they are.
FILE, STAGE = "GPU_CHECK_ROWS", "GPU_CHECK_STAGE"


class Row(NamedTuple):
    """One thing that a stage has found.

    Attributes:
        stage: its name.
        name: of what was looked at.
        ok: whether it is as it must be.
        value: a number, in `unit`; None where there is none.
        note: what else there is to know.
    """

    stage: str
    name: str
    ok: bool
    value: float | None = None
    unit: str = ""
    note: str = ""

    def __str__(self) -> str:
        value = "" if self.value is None else f"{self.value:.4g} {self.unit}"
        state = "ok  " if self.ok else "FAIL"
        return f"{state} {self.stage:12} {self.name:60} {value:20} {self.note[:160]}".rstrip()


def append(file: Path, row: Row) -> None:
    """Append a row in one write, which others that write at the same time can't tear apart."""
    line = json.dumps(row._asdict()) + "\n"
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read(file: Path) -> list[Row]:
    """The rows of a file, in the order they came in; none where there is no file."""
    if not file.exists():
        return []
    return [Row(**json.loads(line)) for line in file.read_text().splitlines()]


def add(
    name: str,
    ok: Any = True,
    value: float | Tensor | None = None,
    unit: str = "",
    note: object = "",
) -> None:
    """Append a row of the stage that runs in this process, and print it.

    Args:
        ok: anything that has a truth, such as a tensor of one element.
        value: one that isn't finite makes the row fail.
    """
    value = None if value is None else float(value)
    sound = value is None or math.isfinite(value)
    row = Row(
        os.environ[STAGE],
        name,
        bool(ok) and sound,
        value if sound else None,
        unit,
        str(note) if sound else f"{value} {note}".strip(),
    )
    append(Path(os.environ[FILE]), row)
    print(row, flush=True)


def needs_a_gpu() -> None:
    """Say that this stage has nothing to do on a CPU."""
    add("needs a GPU", note="nothing was run")


@contextmanager
def case(name: str) -> Iterator[None]:
    """Makes an exception of what runs inside a row, not the end of the stage."""
    try:
        yield
    except Exception as error:  # whatever it is, it is what was found
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        add(name, False, note=f"{type(error).__name__}: {lines[0]}")
