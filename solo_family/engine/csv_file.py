"""metrics.csv: a line for each metric and iteration."""

import csv
import os
from pathlib import Path
from typing import Any

from .loggers import Logger

_HEADS = ("iteration", "metric", "value")


class MetricsTable(Logger):
    """Append metrics to a csv file, which keeps its columns whatever metrics there are.

    Iterations count from 0. A resumed run repeats those after its checkpoint: of two lines with the
    same iteration and metric the later one counts.
    """

    name = "csv"
    _file: Any = None

    def open(self, resumed: bool) -> None:
        """Open the file for appending: a resumed run goes on with its lines."""
        path = self.folder / "metrics.csv"
        is_new = not path.is_file() or not path.stat().st_size
        if not is_new:
            _end_last_line(path)
        self._file = path.open("a", newline="", encoding="utf-8")
        if is_new:
            csv.writer(self._file).writerow(_HEADS)
            self._file.flush()

    def log(self, iteration: int, values: dict[str, float]) -> None:
        """Write a line for each metric."""
        rows = [(iteration, name, repr(value)) for name, value in sorted(values.items())]
        csv.writer(self._file).writerows(rows)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _end_last_line(path: Path) -> None:
    """Remove a line that a killed process has not finished."""
    with path.open("rb+") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
            os.fsync(file.fileno())


def build(folder: Path) -> MetricsTable:
    """Return the logger of a folder."""
    return MetricsTable(folder)
