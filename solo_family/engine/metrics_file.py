"""metrics.json in standard JSON; detectron2 writes NaN, which JSON does not have."""

import json
import math
from typing import Any

from detectron2.utils.events import JSONWriter

from ..files import NOT_SYNCED


class MetricsFile(JSONWriter):
    """Write metrics with detectron2's JSONWriter, but null for values that are not finite.

    Such a value is, for instance, the AP of a size of objects that the dataset does not have.

    Args:
        path: of the file, to which lines are appended.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._file_handle: Any = _StrictLines(self._file_handle)

    def write(self) -> None:
        """Write the metrics, also to a drive that can't be told to write at once."""
        try:
            super().write()
        except OSError as error:  # of fsync, the last step
            if error.errno not in NOT_SYNCED:
                raise


class _StrictLines:
    """An open file of JSON lines, in which values that are not finite become null."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, line: str) -> None:
        """Write one or more lines, each of which is a JSON object."""
        for part in line.splitlines():
            values = {
                key: None if isinstance(value, float) and not math.isfinite(value) else value
                for key, value in json.loads(part).items()
            }
            self._file.write(json.dumps(values, sort_keys=True) + "\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
