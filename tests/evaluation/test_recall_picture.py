"""The drawn curves."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from solo_family.evaluation.recall_picture import draw_recall


def drawn(path: Path, *curves: list[float]) -> np.ndarray:
    draw_recall(path, [0.5, 0.75], dict(zip((10, 100), curves)))
    return cv2.imread(str(path))


def test_the_picture_shows_each_curve(tmp_path: Path) -> None:
    one = drawn(tmp_path / "one.png", [0.8, 0.2])
    assert one.shape[0] > 300
    assert (one != drawn(tmp_path / "lower.png", [0.4, 0.2])).any()
    two = drawn(tmp_path / "two.png", [0.8, 0.2], [0.9, 0.5])
    # Orange, the colour of matplotlib's second curve.
    assert ((two == (14, 127, 255)).all(-1)).sum() > ((one == (14, 127, 255)).all(-1)).sum()


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        draw_recall(tmp_path / "curves.nonsense", [0.5], {10: [1.0]})
    assert list(tmp_path.iterdir()) == []
