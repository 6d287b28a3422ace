"""metrics.json in JSON that every reader takes: detectron2 writes NaN, which is none."""

import json
import math
from typing import Any

from detectron2.utils.events import JSONWriter

from ..files import NOT_SYNCED


class MetricsFile(JSONWriter):
    """detectron2's writer, with null for what is not finite: the AP of sizes that are absent.

    Args:
        path: of the file, to which lines are added.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._file_handle: Any = _StrictLines(self._file_handle)

    def write(self) -> None:
        try:
            super().write()
        except OSError as error:  # the last step tells the drive to write at once
            if error.errno not in NOT_SYNCED:
                raise


class _StrictLines:
    """An open file of JSON lines."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, line: str) -> None:
        """Write one line, or several, of JSON objects."""
        for part in line.splitlines():
            values = {
                key: None if isinstance(value, float) and not math.isfinite(value) else value
                for key, value in json.loads(part).items()
            }
            self._file.write(json.dumps(values, sort_keys=True) + "\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
