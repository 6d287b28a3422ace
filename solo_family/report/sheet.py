"""Draw pictures beside each other on one sheet, with their names and labels.

H W of a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..files import replacing
from ..pictures.fonts import have_all_letters
from .figures import literal, new_figure, save

# The longer side of a picture on the sheet, in pixels.
SIDE = 480
_OPACITY = 0.45
_LINE = 2
_INCHES = 4.0  # the longer side
_LABEL = 14  # the height of a label, in pixels


@dataclass
class Drawn:
    """A picture with objects drawn on it.

    Attributes:
        pixels: uint8 [H, W, 3], RGB.
        labels: text, x, y and colour of each label.
    """

    pixels: np.ndarray
    labels: list[tuple[str, float, float, str]] = field(default_factory=list)

    def add(self, mask: np.ndarray, colour: str, label: str = "", filled: bool = True) -> None:
        """Draw a mask, bool of any size, with an outline, and a label at its top."""
        small = fitted(mask.astype(np.uint8), self.pixels.shape[:2])
        if not small.any():
            return
        rgb = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
        # A crowd has thousands of masks, each of few pixels.
        left, top, width, height = cv2.boundingRect(small)
        part = np.ascontiguousarray(small[top : top + height, left : left + width])
        inside = part > 0
        if filled:
            box = self.pixels[top : top + height, left : left + width]
            box[inside] = ((1 - _OPACITY) * box[inside] + _OPACITY * rgb).round().astype(np.uint8)
        outlines, _ = cv2.findContours(
            part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(left, top)
        )
        cv2.drawContours(self.pixels, outlines, -1, rgb.tolist(), _LINE)
        if label:
            x = left + float(np.flatnonzero(inside[0]).mean())
            self.labels.append((label, x, float(max(top, _LABEL)), colour))


@dataclass(frozen=True)
class Row:
    """One image of the sheet: its caption, and the pictures beside each other."""

    caption: str
    pictures: Sequence[Drawn]


def fitted(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return labels or a mask at another size, each pixel the nearest one's."""
    height, width = size
    if values.shape[:2] == size:
        return values
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def shrunk(picture: np.ndarray) -> np.ndarray:
    """Return a picture, uint8 [H, W, 3], BGR, as RGB whose longer side fits the sheet."""
    scale = SIDE / max(picture.shape[:2])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=method)
    return np.ascontiguousarray(resized[:, :, ::-1])


def write_sheet(
    path: Path, rows: Sequence[Row], titles: Sequence[str], columns: int, legend: dict[str, str]
) -> None:
    """Write the images, `columns` of them in a row.

    Args:
        path: the file, whose suffix names the format.
        rows: the images, each with as many pictures as there are titles.
        titles: of the pictures of an image.
        columns: how many images are side by side.
        legend: colours by what they mean.
    """
    pictures = len(titles)
    lines = [rows[first : first + columns] for first in range(0, len(rows), columns)]
    heights = [
        max(one.pixels.shape[0] for row in line for one in row.pictures) / SIDE * _INCHES + 0.45
        for line in lines
    ]
    figure = new_figure(_INCHES * pictures * columns, sum(heights) + 0.5)
    grid = figure.subplots(len(lines), pictures * columns, squeeze=False, height_ratios=heights)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, row in enumerate(rows):
        line, column = divmod(number, columns)
        for place, (drawn, title) in enumerate(zip(row.pictures, titles)):
            axes = grid[line][column * pictures + place]
            axes.imshow(drawn.pixels)
            axes.set_anchor("N")
            caption = f"{row.caption}\n{title}" if place == 0 else title
            axes.set_title(literal(caption), fontsize=8, loc="left")
            for text, x, y, colour in drawn.labels:
                box = {"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
                axes.text(
                    *(x, y, literal(text)),
                    fontsize=6,
                    color="white",
                    ha="center",
                    va="bottom",
                    bbox=box,
                    clip_on=True,
                )
    if legend:
        handles = [_patch(colour, name) for name, colour in legend.items()]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=8, frameon=False, fontsize=9
        )
    _keep_labels_inside(figure)
    with replacing(path) as temporary:
        save(figure, temporary)


def _keep_labels_inside(figure: Figure) -> None:
    """Move the labels that a border of their picture would cut into it."""
    have_all_letters(figure)  # the sizes are those of the letters that will be drawn
    figure.draw_without_rendering()
    for axes in figure.axes:
        picture = axes.get_window_extent()
        for text in axes.texts:
            box = text.get_bbox_patch()
            assert box is not None
            drawn = box.get_window_extent()
            right = max(0.0, picture.x0 - drawn.x0) or min(0.0, picture.x1 - drawn.x1)
            pixel = axes.transData.transform(text.get_position())
            text.set_x(axes.transData.inverted().transform((pixel[0] + right, pixel[1]))[0])


def _patch(colour: str, name: str) -> Patch:
    return Patch(color=colour, label=literal(name))
