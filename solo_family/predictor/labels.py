"""Keep the labels that detectron2 writes on pictures inside of them, and off crowds of objects."""

from typing import Any

from detectron2.utils.visualizer import VisImage

from ..pictures.fonts import have_all_letters

# Points; smaller letters can't be read. Labels that still don't fit begin at the left border.
_SMALLEST = 5.0

# More labels than this are a crowd's; with the share of the picture that they may cover together.
_CROWD = 20
_COVERED = 0.5


def keep_labels_inside(drawn: VisImage) -> None:
    """Move the labels of a drawing that a border cuts into it, and shrink those that are too wide.

    The labels of a crowd, which would hide its masks, are left out. Letters that matplotlib's own
    font lacks are drawn with another font.

    Args:
        drawn: detectron2's, not yet rendered.
    """
    have_all_letters(drawn.fig)
    renderer: Any = drawn.canvas.get_renderer()
    if _hide_the_picture(drawn, renderer):
        for text in list(drawn.ax.texts):
            text.remove()
    for text in drawn.ax.texts:
        left, top, right, bottom = _box(text, renderer, drawn.height)
        if right - left > drawn.width and text.get_fontsize() > _SMALLEST:
            shrunk = text.get_fontsize() * drawn.width / (right - left) * 0.98
            text.set_fontsize(max(_SMALLEST, shrunk))
            left, top, right, bottom = _box(text, renderer, drawn.height)
        x, y = text.get_position()
        text.set_position(
            (x + _shift(left, right, drawn.width), y + _shift(top, bottom, drawn.height))
        )


def _hide_the_picture(drawn: VisImage, renderer: Any) -> bool:
    """Return whether so many labels would cover so much that the masks could not be seen."""
    if len(drawn.ax.texts) <= _CROWD:
        return False
    boxes = (_box(text, renderer, drawn.height) for text in drawn.ax.texts)
    covered = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    return covered > _COVERED * drawn.width * drawn.height


def _box(text: Any, renderer: Any, height: int) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a label with its background, in pixels."""
    text.update_bbox_position_size(renderer)
    patch = text.get_bbox_patch()
    extent = text.get_window_extent(renderer) if patch is None else patch.get_window_extent()
    # matplotlib counts from the lower border.
    return extent.x0, height - extent.y1, extent.x1, height - extent.y0


def _shift(low: float, high: float, size: int) -> float:
    """Return how far to move an interval to have it in 0 to `size`, or at 0 if it is longer."""
    if low < 0 or high - low > size:
        return -low
    return min(0.0, size - high)
