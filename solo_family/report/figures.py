"""What the pictures of a report have in common."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..pictures.fonts import have_all_letters

# Okabe and Ito's colours, which people who confuse red and green can tell apart.
RIGHT, WRONG, SECOND = "#0072B2", "#D55E00", "#009E73"
_DPI = 120


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of a size in inches; without pyplot no display is needed."""
    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def literal(name: str) -> str:
    """Return a name of other people's as matplotlib draws it: no formula between dollar signs.

    A legend leaves out what begins with an underscore.
    """
    escaped = name.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def tidy(axes: Axes) -> None:
    """Leave out what carries nothing."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.title.set_fontsize("medium")


def count_iterations(axes: Axes) -> None:
    """Let a horizontal axis have whole numbers."""
    axes.set_xlabel("iteration")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the suffix names."""
    have_all_letters(figure)
    options = {"quality": 90} if path.suffix == ".jpg" else {}
    figure.savefig(path, dpi=_DPI, pil_kwargs=options)
