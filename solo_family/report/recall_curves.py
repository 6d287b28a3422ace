"""Draw precision against recall, and precision, recall and F1 against the confidence threshold."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..files import replacing
from .confidence import ByThreshold
from .figures import RIGHT, SECOND, WRONG, literal, new_figure, save, tidy


def draw_recall_curves(
    path: Path,
    curves: Mapping[str, np.ndarray],
    recalls: np.ndarray,
    thresholds: ByThreshold,
    marked: Mapping[str, float | None],
) -> None:
    """Write a picture of two parts.

    Args:
        path: the file, whose suffix names the format.
        curves: precision at each recall, 0 to 1, by name.
        recalls: those recalls.
        thresholds: what to draw against the threshold.
        marked: thresholds to mark, by name; None for one that does not exist.
    """
    figure = new_figure(12, 4.2)
    left, right = figure.subplots(1, 2)
    for place, (name, precision) in enumerate(curves.items()):
        # The first two are of all classes.
        options = {"color": "black", "linestyle": "-:"[place], "linewidth": 2} if place < 2 else {}
        left.plot(recalls, precision, label=literal(name), **options)
    left.set(title="Precision and recall", xlabel="recall", ylabel="precision")
    for name, colour in (("precision", RIGHT), ("recall", SECOND), ("f1", WRONG)):
        values = getattr(thresholds, name)
        label = "F1" if name == "f1" else name
        right.plot(thresholds.scores, values, label=label, color=colour, drawstyle="steps-pre")
    for place, (name, threshold) in enumerate(marked.items()):
        if threshold is not None:
            style = {"color": "black", "linestyle": (":", "--")[place]}
            right.axvline(threshold, label=f"{name}: {threshold:.3g}", **style)
    right.set(title="By confidence threshold, at IoU 0.5", xlabel="confidence threshold")
    for axes in (left, right):
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        tidy(axes)
        if axes.get_legend_handles_labels()[0]:  # without objects there is nothing to draw
            axes.legend(fontsize="small", frameon=False)
    with replacing(path) as temporary:
        save(figure, temporary)
