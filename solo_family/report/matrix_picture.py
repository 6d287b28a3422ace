"""Draw a confusion matrix, and write it as a table."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..files import replacing
from .figures import literal, new_figure, save
from .section import Section

# A picture of more rows could not be read.
_MOST_ROWS = 30
_MOST_WITH_NUMBERS = 16


def add_matrix(
    section: Section,
    path: Path,
    matrix: np.ndarray,
    names: tuple[Sequence[str], Sequence[str]],
    unit: str,
    meaning: str,
) -> None:
    """Write a matrix as a csv file and as a picture beside it, and add both to a section.

    Args:
        section: gets the paragraphs after its heading.
        path: of the csv file.
        matrix: int64 [R, C].
        names: of its R rows and of its C columns.
        unit: what is counted.
        meaning: what the matrix shows, in words.
    """
    write_matrix(path, matrix, *names)
    picture = path.with_suffix(".png")
    whole = draw_matrix(picture, matrix, *names, unit)
    section.text += [
        meaning
        + ("" if whole else " The picture shows the classes that are confused most.")
        + f" All numbers: [{path.name}]({path.name}).",
        f"![confusion matrix]({picture.name})",
    ]


def write_matrix(
    path: Path, matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str]
) -> None:
    """Write a matrix as a csv file, with the names of its rows (true) and columns (predicted)."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["true \\ predicted", *columns])
        writer.writerows([name, *row.tolist()] for name, row in zip(rows, matrix))


def draw_matrix(
    path: Path, matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str], unit: str
) -> bool:
    """Draw a matrix, each row in percent of its sum.

    Classes that don't occur are left out; of many only those with most confusions are drawn.

    Args:
        path: the file, whose suffix names the format.
        matrix: int64 [R, C].
        rows: R names.
        columns: C names, those of the rows first.
        unit: what is counted.

    Returns:
        Whether all classes that occur are drawn.
    """
    count = len([row for row, column in zip(rows, columns) if row == column])
    present = _occurring(matrix, count)
    chosen = _most_confused(matrix, present)
    shown_rows = [*chosen, *range(count, len(rows))]
    shown_columns = [*chosen, *range(count, len(columns))]
    counts = matrix[np.ix_(shown_rows, shown_columns)]
    sums = matrix[shown_rows].sum(1, keepdims=True)
    shares = 100 * counts / np.maximum(1, sums)
    side = 2.6 + 0.42 * max(len(shown_rows), len(shown_columns))
    figure = new_figure(max(4.5, side + 1), max(3.6, side))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for axis, names, shown in (
        (axes.xaxis, columns, shown_columns),
        (axes.yaxis, rows, shown_rows),
    ):
        axis.set_ticks(range(len(shown)), [literal(names[place]) for place in shown])
    axes.tick_params(axis="x", labelrotation=90)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(f"Confusion matrix: {unit}, colours in percent of a row", fontsize="medium")
    if len(shown_rows) <= _MOST_WITH_NUMBERS:
        for row, column in np.ndindex(*counts.shape):
            colour = "white" if shares[row, column] > 50 else "black"
            text = _number(int(counts[row, column]))
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.8)
    with replacing(path) as temporary:
        save(figure, temporary)
    return len(present) == len(chosen)


def _occurring(matrix: np.ndarray, count: int) -> np.ndarray:
    """Return which of the first `count` classes occur, or were predicted; all if none does."""
    occurs = (matrix[:count].sum(1) > 0) | (matrix[:, :count].sum(0) > 0)
    return np.flatnonzero(occurs) if occurs.any() else np.arange(count)


def _most_confused(matrix: np.ndarray, present: np.ndarray) -> list[int]:
    """Return the classes to draw, in their order: of many those that are most confused."""
    square = matrix[np.ix_(present, present)]
    square = square * (1 - np.eye(len(present), dtype=np.int64))
    errors = square.sum(0) + square.sum(1)
    return sorted(present[np.argsort(-errors, kind="stable")[:_MOST_ROWS]].tolist())


def _number(count: int) -> str:
    for limit, unit in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if count >= limit:
            return f"{count / {'G': 10**9, 'M': 10**6, 'k': 10**3}[unit]:.3g}{unit}"
    return str(count)
