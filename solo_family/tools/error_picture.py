"""Draws an error analysis."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evaluation.error_fixes import ERRORS
from ..evaluation.error_types import SIZES, TruthType
from ..files import replacing

# Light to dark, so that sizes are told apart without colour, too.
_SIZE_COLORS = ("#9ecae1", "#4292c6", "#08519c")
_COLOR, _MENDED = "#4292c6", "#41ab5d"


def draw_errors(path: Path, analysis: dict[str, Any]) -> None:
    """Writes a picture: AP of the oracles, AP gained by mending each error, numbers of errors.

    Args:
        path: the file, whose suffix names the format.
        analysis: of `analyse_errors`.
    """
    # Without pyplot nothing asks for a display.
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    oracles, gains, numbers = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    _draw_oracles(oracles, analysis)
    _draw_gains(gains, analysis)
    _draw_numbers(numbers, analysis)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _draw_oracles(axes: Axes, analysis: dict[str, Any]) -> None:
    names = list(analysis["oracles"])
    values = [analysis["oracles"][name]["AP"] or 0 for name in names]
    bars = axes.barh(names, values, color=[_COLOR, *[_MENDED] * (len(names) - 1)])
    axes.bar_label(bars, [f"{value:.1f}" for value in values], padding=4)
    axes.set(title="AP with ground-truth masks or classes", xlabel="AP")
    _tidy(axes, largest=max(values))


def _draw_gains(axes: Axes, analysis: dict[str, Any]) -> None:
    values = [analysis["gain"][error]["all"] or 0 for error in ERRORS]
    bars = axes.barh([str(error) for error in ERRORS], values, color=_MENDED)
    axes.bar_label(bars, [f"+{value:.1f}" for value in values], padding=4)
    name = f"AP{100 * analysis['iou_threshold']:g}"
    now = analysis["AP_at_threshold"]["all"] or 0
    axes.set(title=f"{name} gained by mending one kind of error", xlabel=f"added to {now:.1f}")
    _tidy(axes, largest=max(values))


def _draw_numbers(axes: Axes, analysis: dict[str, Any]) -> None:
    counts = analysis["predictions"] | {TruthType.MISSED: analysis["ground_truth"]["missed"]}
    names = [str(error) for error in ERRORS]
    lefts = [0] * len(ERRORS)
    for size, color in zip(SIZES, _SIZE_COLORS):
        widths = [counts[error][size] for error in ERRORS]
        bars = axes.barh(names, widths, left=lefts, color=color, label=size)
        lefts = [left + width for left, width in zip(lefts, widths)]
    axes.bar_label(bars, [f"{total:,}" for total in lefts], padding=4)
    axes.set(title=f"Errors at IoU {analysis['iou_threshold']:g}", xlabel="number")
    axes.legend(title="size of the object", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    _tidy(axes, largest=max(lefts))


def _tidy(axes: Axes, largest: float) -> None:
    """Puts the first bar on top, and leaves room for the numbers at the bars' ends."""
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * (largest or 1))
    axes.title.set_fontsize("medium")
    axes.spines[["top", "right"]].set_visible(False)
