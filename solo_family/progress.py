"""Progress bars whose remaining time is right early on."""

import bisect
import io
import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

# How often a bar is written, in seconds, where each time stays as a line of a log.
_SECONDS_IN_A_LOG = 30.0


class Progress(tqdm):
    """tqdm's bar, with the rate of the later half of the items; seldom written to a log's file.

    The first items often take longer: files are not cached, libraries choose their algorithms. And
    some take longer throughout: large pictures, the first of a batch. tqdm's own moving average of
    the last few items follows each of these; the mean of a half does not.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._counts: list[float] = []
        self._times: list[float] = []
        stream = options.get("file") or sys.stderr
        # A notebook's stream is of another kind, and replaces the bar as a terminal does.
        if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            options = {"mininterval": _SECONDS_IN_A_LOG, "maxinterval": _SECONDS_IN_A_LOG} | options
        super().__init__(*args, **options)

    def update(self, n: float | None = 1) -> bool | None:
        """Count items that are done."""
        shown = super().update(n)
        if not self.disable:
            self._counts.append(self.n)
            self._times.append(self._time())
        return shown

    @property
    def format_dict(self) -> Mapping[str, Any]:
        """What a bar shows, with the rate of the later half."""
        content = dict(super().format_dict)
        rate = self._later_rate()
        return content | {"rate": rate} if rate else content

    def _later_rate(self) -> float | None:
        """Return items per second, None in the beginning."""
        if not self._counts:
            return None
        last, end = self._counts[-1], self._times[-1]
        place = bisect.bisect_right(self._counts, (self.initial + last) / 2) - 1
        first, start = self.initial, self.start_t
        if place >= 0:
            first, start = self._counts[place], self._times[place]
        return (last - first) / (end - start) if end > start else None
