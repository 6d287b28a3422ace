"""Summarise cross-validation: the mean over folds, and how much they differ.

F folds.
"""

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from .curves import evaluation_curves, read_metrics
from .section import table

Results = dict[str, float | None]


def last_results(folder: Path) -> Results:
    """Return the metrics of the last evaluation of a run, by name."""
    metrics = read_metrics(folder / "metrics.json", sys.maxsize)
    evaluated = {name: series for name, series in metrics.items() if "/" in name}
    last = max((iterations[-1] for iterations, _ in evaluated.values()), default=0)
    return {
        name: values[-1]
        for name, (iterations, values) in evaluated.items()
        if iterations[-1] == last
    }


def summary(dataset: str, folds: Sequence[Results]) -> str:
    """Return a table in Markdown: each metric's mean, standard deviation and value by fold.

    Args:
        dataset: the name of what was split.
        folds: the metrics of F folds, at least one.
    """
    names = [name for fold in folds for name in fold]
    shown = evaluation_curves({name: ([1], [0.0]) for name in names})
    rows = []
    for name in shown:
        values = [value for fold in folds if (value := fold.get(name)) is not None]
        spread = f"{statistics.stdev(values):.1f}" if len(values) > 1 else "-"
        by_fold = [_number(fold.get(name)) for fold in folds]
        rows.append([name, f"{statistics.mean(values):.1f}", spread, *by_fold])
    numbers = [f"fold {place}" for place in range(1, len(folds) + 1)]
    heads = ["metric", "mean", "standard deviation", *numbers]
    return (
        f"# Cross-validation of {dataset}\n\n"
        f"{len(folds)} trainings, each measured on images that the others trained on. The standard "
        "deviation is between folds: it comes from their images and from chance in training.\n\n"
        f"{table(heads, rows)}\n"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
