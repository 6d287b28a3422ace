"""Draw what metrics.json has: losses, and the metrics of evaluations."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..files import replacing
from .figures import count_iterations, literal, new_figure, save, tidy

# History of a metric: iterations, counted from 1, and values.
Series = tuple[list[int], list[float]]

# What is drawn of each evaluation's metrics, in this order.
_SHOWN = ("AP", "AP50", "AP75", "PQ", "SQ", "RQ", "mIoU", "pACC", "AR@10", "AR@100", "AR@1000")
_TASKS = ("segm", "panoptic_seg", "sem_seg", "proposals")
_MOST_CURVES = 6


def read_metrics(path: Path, last: int) -> dict[str, Series]:
    """Return the history of each metric in a metrics.json.

    A resumed run repeats the iterations after its checkpoint; what it wrote of them before is
    dropped. What is measured when a training has ended counts as measured in its last iteration,
    also if the run went on later.

    Args:
        path: of the file; where there is none, there is no history.
        last: the number of the last iteration; what is measured after it counts as measured in it.
    """
    metrics: dict[str, Series] = {}
    trained = None  # the number of the last iteration that has losses
    for row in _rows(path):
        if "total_loss" in row:
            trained = row["iteration"] + 1
        # detectron2 counts on for an evaluation at the end, and no loss has that number.
        is_at_the_end = "total_loss" not in row and row["iteration"] == trained
        iteration = min(row["iteration"] + (not is_at_the_end), last)
        for name, value in row.items():
            if name != "iteration" and isinstance(value, int | float):
                iterations, values = metrics.setdefault(name, ([], []))
                while iterations and iterations[-1] >= iteration:
                    iterations.pop()
                    values.pop()
                iterations.append(iteration)
                values.append(value)
    return metrics


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            with suppress(ValueError):  # the last line of a run that was killed
                yield json.loads(line)


def draw_curves(path: Path, metrics: dict[str, Series]) -> None:
    """Write a picture of the losses and, if there were evaluations, of their metrics.

    Args:
        path: the file, whose suffix names the format.
        metrics: result of `read_metrics`.
    """
    evaluations = evaluation_curves(metrics)
    figure = new_figure(12 if evaluations else 6.5, 4.2)
    axes = figure.subplots(1, 2 if evaluations else 1, squeeze=False)[0]
    losses = axes[0]
    for name, series in loss_curves(metrics).items():
        is_whole, is_validation = name.endswith("total_loss"), "validation" in name
        losses.plot(
            *series,
            label=name,
            linewidth=2 if is_whole else 1,
            linestyle="--" if is_validation else "-",
            color="black" if name == "total_loss" else None,
            marker="o" if len(series[0]) == 1 or is_validation else None,
            markersize=4,
        )
    losses.set(title="Losses", yscale="log")
    losses.yaxis.set_major_formatter("{x:g}")
    losses.yaxis.set_minor_formatter("{x:g}")
    losses.tick_params(axis="y", which="both", labelsize="small")
    if evaluations:
        for name, series in evaluations.items():
            axes[1].plot(*series, label=literal(name), marker="o", markersize=4)
        axes[1].set(title="Evaluations", ylabel="percent", ylim=(0, None))
    for one in axes:
        tidy(one)
        count_iterations(one)
        if one.get_legend_handles_labels()[0]:
            one.legend(fontsize="small", frameon=False)
    with replacing(path) as temporary:
        save(figure, temporary)


def loss_curves(metrics: dict[str, Series]) -> dict[str, Series]:
    """Return the losses, their sum first; those of single layers (`_0`, `_1`) are left out."""
    names = [name for name in metrics if "loss" in name and not re.search(r"_\d+$", name)]
    names.sort(key=lambda name: (not name.endswith("total_loss"), "/" in name, name))
    return {name: metrics[name] for name in names}


def evaluation_curves(metrics: dict[str, Series]) -> dict[str, Series]:
    """Return the most important metrics of the evaluations, at most six."""
    shown = {}
    for task in _TASKS:
        for kind in _SHOWN:
            for name, series in metrics.items():
                if re.search(rf"(^|/){task}(_ema)?/{re.escape(kind)}$", name):
                    shown[name] = series
    return dict(list(shown.items())[:_MOST_CURVES])
