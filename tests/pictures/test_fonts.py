"""Names whose letters matplotlib's own font lacks."""

import logging

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from solo_family.pictures import fonts

# In a font that matplotlib brings along.
OTHER = "\U0001d608"  # an italic A of mathematics


def drawn(name: str, *, prepared: bool) -> np.ndarray:
    figure = Figure(figsize=(2, 1))
    figure.text(0.2, 0.3, name, fontsize=40)
    if prepared:
        fonts.have_all_letters(figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., 0]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_letters_are_those_of_another_font() -> None:
    own = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    assert ord(OTHER) not in own.get_charmap()
    box = drawn("\U0001d609", prepared=False)
    assert np.array_equal(drawn(OTHER, prepared=False), box)
    assert not np.array_equal(drawn(OTHER, prepared=True), box)
    # Names that need no other font look as before.
    assert np.array_equal(drawn("person é", prepared=True), drawn("person é", prepared=False))


@pytest.mark.filterwarnings("ignore:Glyph")
def test_letters_that_no_font_has_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    nowhere = "\U0010fffd"
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            drawn(f"cat {nowhere}", prepared=True)
    assert len(caplog.records) == 1
    assert nowhere in caplog.text
    assert "drawn as boxes. Install one that has them" in caplog.text
