"""Report the times of a model's parts, as a table, as numbers and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tabulate import tabulate

from ...files import replacing

BEFORE, AFTER, TOTAL = "preprocessing", "post-processing", "total"
NETWORK = "network"

# Seconds of each run, by part, as `time_parts` returns them.
Timings = Mapping[str, Sequence[float]]


def summary(timings: Timings, batch_size: int = 1) -> dict[str, dict[str, float]]:
    """Return p50 and p95 in seconds, and images per second at p50, of every part.

    The network's time is the sum of its parts in the same run: all but pre- and post-processing.
    """
    outside = (BEFORE, AFTER, TOTAL)
    network = [values for part, values in timings.items() if part not in outside]
    parts = {
        **{part: values for part, values in timings.items() if part != TOTAL},
        NETWORK: [sum(run) for run in zip(*network)],
        TOTAL: timings[TOTAL],
    }
    result = {}
    for part, values in parts.items():
        p50, p95 = np.percentile(values, [50, 95]).tolist()
        speed = batch_size / p50 if p50 else float("inf")
        result[part] = {"p50": p50, "p95": p95, "images_per_second": speed}
    return result


def table(timings: Timings, batch_size: int = 1) -> str:
    """Return a table of the parts' times in milliseconds, their shares and speeds."""
    figures = summary(timings, batch_size)
    parts = [part for part in figures if part not in (NETWORK, TOTAL)]
    whole = sum(figures[part]["p50"] for part in parts)
    rows = [
        (
            part,
            f"{1000 * row['p50']:.2f}",
            f"{1000 * row['p95']:.2f}",
            f"{100 * row['p50'] / whole:.1f} %" if part in parts else "",
            f"{row['images_per_second']:.1f}",
        )
        for part, row in figures.items()
    ]
    header = ("part", "p50, ms", "p95, ms", "share", "images/s")
    return tabulate(rows, header, disable_numparse=True)


def model_plot(runs: Mapping[str, Timings], path: Path) -> None:
    """Draw one bar per run, made of the median times of its parts.

    Args:
        runs: times of the parts, by a description of the run.
        path: the path of the picture; its suffix names the format.
    """
    figure = Figure(figsize=(10, 1.5 + 0.6 * len(runs)), layout="constrained")
    axes = figure.subplots()
    parts: list[str] = []
    for timings in runs.values():
        parts += [part for part in timings if part not in (*parts, TOTAL)]
    left = np.zeros(len(runs))
    for part in parts:
        width = [1000 * float(np.median(timings.get(part, [0]))) for timings in runs.values()]
        axes.barh(list(runs), width, left=left, label=part)
        left += width
    axes.set_xlabel("median milliseconds of a batch")
    axes.invert_yaxis()
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=4)
    options: dict[str, Any] = {"format": path.suffix.lstrip(".") or "png"}
    with replacing(path) as temporary:
        figure.savefig(temporary, **options)
