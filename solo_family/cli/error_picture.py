"""Draw an error analysis."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evaluation.error_fixes import ERRORS
from ..evaluation.error_types import SIZES, TruthType
from ..files import replacing

# Light to dark, so that sizes can be told apart without colour, too.
_SIZE_COLORS = ("#9ecae1", "#4292c6", "#08519c")
_COLOR, _MENDED = "#4292c6", "#41ab5d"


def draw_errors(path: Path, analysis: dict[str, Any]) -> None:
    """Write a picture: AP of the oracles, AP gained by fixing each error, numbers of errors.

    Args:
        path: the file, whose suffix names the format.
        analysis: result of `analyse_errors`.
    """
    # Without pyplot no display is needed.
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    oracles, gains, numbers = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    _draw_oracles(oracles, analysis)
    _draw_gains(gains, analysis)
    _draw_numbers(numbers, analysis)
    for axes in figure.axes:
        axes.title.set_fontsize("medium")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _draw_oracles(axes: Axes, analysis: dict[str, Any]) -> None:
    names = list(analysis["oracles"])
    values = [analysis["oracles"][name]["AP"] for name in names]
    colors = [_COLOR, *[_MENDED] * (len(names) - 1)]
    _draw_bars(axes, names, values, colors, ".1f")
    axes.set(title="AP with ground-truth masks or classes", xlabel="AP")


def _draw_gains(axes: Axes, analysis: dict[str, Any]) -> None:
    values = [analysis["gain"][error]["all"] for error in ERRORS]
    _draw_bars(axes, list(map(str, ERRORS)), values, [_MENDED] * len(ERRORS), "+.1f")
    name = f"AP{100 * analysis['iou_threshold']:g}"
    now = analysis["AP_at_threshold"]["all"] or 0
    axes.set(title=f"{name} gained by fixing one type of error", xlabel=f"added to {now:.1f}")


def _draw_numbers(axes: Axes, analysis: dict[str, Any]) -> None:
    counts = analysis["predictions"] | {TruthType.MISSED: analysis["ground_truth"]["missed"]}
    names = list(map(str, ERRORS))
    lefts = [0] * len(ERRORS)
    for size, color in zip(SIZES, _SIZE_COLORS):
        widths = [counts[error][size] for error in ERRORS]
        bars = axes.barh(names, widths, left=lefts, color=color, label=size)
        lefts = [left + width for left, width in zip(lefts, widths)]
    axes.bar_label(bars, [f"{total:,}" for total in lefts], padding=4)
    axes.set(title=f"Errors at IoU {analysis['iou_threshold']:g}", xlabel="number")
    axes.legend(title="size of the object", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    _tidy(axes, largest=max(lefts))


def _draw_bars(
    axes: Axes, names: list[str], values: list[float | None], colors: list[str], form: str
) -> None:
    widths = [value or 0 for value in values]
    bars = axes.barh(names, widths, color=colors)
    labels = ["no ground truth" if value is None else format(value, form) for value in values]
    axes.bar_label(bars, labels, padding=4)
    _tidy(axes, largest=max(widths))


def _tidy(axes: Axes, largest: float) -> None:
    """Put the first bar on top, and leave room for the numbers at the ends of the bars."""
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25 * (largest or 1))
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter("{x:,.10g}")
    axes.spines[["top", "right"]].set_visible(False)
