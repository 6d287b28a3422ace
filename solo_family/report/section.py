"""Parts of a report: text in Markdown, and the same as numbers."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import replacing
from .bootstrap import Interval

# Rows of a table in the text; its csv file has all.
MOST_ROWS = 30
# With fewer images than that, words say that they are few.
_FEW_IMAGES = 200
_FOLDS = ", and so does cross-validation (`python -m solo_family folds`)"


@dataclass
class Section:
    """A part of the report.

    Attributes:
        text: paragraphs in Markdown.
        numbers: what report.json has of it.
        threshold: the confidence threshold with the best F1; None where there is none.
        threshold_at: the place in the text after what it says about that.
    """

    text: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    threshold: float | None = None
    threshold_at: int = 0


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def write_table(path: Path, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a csv file; what is not a number is left empty."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(heads)
        writer.writerows([plain(value) for value in row] for row in rows)


def plain(value: Any) -> Any:
    """Return a number as JSON and csv have it: None for one that is not finite."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def plain_interval(one: Interval) -> list[Any]:
    """Return a figure and the ends of its interval, each as `plain` gives it."""
    return [plain(one.value), plain(one.low), plain(one.high)]


def percent(value: float) -> str:
    """Return a share, 0 to 1, in percent; "-" for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def on_the_interval(name: str, value: str, num_images: int, has_folds: bool) -> str:
    """Return what an interval of the bootstrap means, and whether the images are few.

    Args:
        name: of the figure.
        value: the figure with its interval, and others.
        num_images: how many validation images there are.
        has_folds: whether the dataset can be cross-validated by the verb.
    """
    if num_images < 2:
        return f"**{name} {value}**, on one image: how much it depends on the image is unknown."
    text = (
        f"**{name} {value}.** In brackets is the 95 % interval of a bootstrap over the "
        f"{num_images} validation images: images are drawn at random from them, with repetition, "
        "again and again, and the figure computed each time. It says how much the figure depends "
        "on which images were chosen."
    )
    if num_images >= _FEW_IMAGES:
        return text
    return (
        f"{text} {num_images} images are few: two trainings whose figures differ by less than the "
        "interval's width may be equally good. More validation images or several seeds tell them "
        f"apart{_FOLDS if has_folds else ''}."
    )


def shown_rows(rows: Sequence[Sequence[Any]], key: int) -> tuple[list[Sequence[Any]], str]:
    """Return the rows of a table that the text shows, and what it says about the others.

    Args:
        rows: those of classes, with the number of their images in the second column.
        key: the column of the figure by which the worst are chosen if there are many.
    """
    if len(rows) <= MOST_ROWS:
        return list(rows), ""
    occurring = [row for row in rows if row[1]]
    text = f"{len(rows) - len(occurring)} of {len(rows)} classes don't occur."
    if len(occurring) <= MOST_ROWS:
        return occurring, text
    worst = sorted(occurring, key=lambda row: float(row[key]))[:MOST_ROWS]
    return worst, f"{text} These are the {MOST_ROWS} of the others with the lowest figures."
