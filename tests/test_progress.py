"""A bar's remaining time is right within 30 % after a tenth, whatever the first items take."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from solo_family.progress import Progress

TOTAL = 1000


@pytest.mark.parametrize("at", [99, 100, 101, 105, 500])
@pytest.mark.parametrize(
    "seconds",
    [
        lambda i: 10.0 if i < 49 else 1.0,  # a slow start
        lambda i: 8.0 if i % 10 == 0 else 0.2,  # every tenth takes longer
        lambda i: 1.0,
    ],
)
@pytest.mark.parametrize("earlier", [0, 300])
def test_within_thirty_percent(at: int, seconds: Callable[[int], float], earlier: int) -> None:
    now = [0.0]
    bar = Progress(total=earlier + TOTAL, initial=earlier, file=io.StringIO(), mininterval=0)
    bar._time, bar.start_t = lambda: now[0], 0.0
    told = 0.0
    for item in range(TOTAL):
        now[0] += seconds(item)
        bar.update()
        if item + 1 == at:
            told = now[0] + (bar.total - bar.n) / bar.format_dict["rate"]
    true, elapsed = now[0], sum(map(seconds, range(at)))
    assert told - elapsed == pytest.approx(true - elapsed, rel=0.3)
    bar.close()


def test_items_pass_and_a_hidden_bar_shows_nothing() -> None:
    assert list(Progress(range(3), file=io.StringIO())) == [0, 1, 2]
    shown = io.StringIO()
    with Progress(total=2, disable=True, file=shown) as bar:
        bar.update()
        assert bar.format_dict["n"] == 0
    assert shown.getvalue() == ""
    with Progress(total=2, file=shown, mininterval=0) as bar:
        bar.update()
    assert "1/2" in shown.getvalue()


def test_a_log_file_is_not_filled(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as file:
        bar = Progress(total=TOTAL, file=file)
        now = [bar.start_t]
        bar._time = lambda: now[0]
        for _ in range(TOTAL):
            now[0] += 0.1
            bar.update()
        bar.close()
    shown = (tmp_path / "log").read_text()
    assert len(shown.split("\r")) < 8
    assert "1000/1000" in shown


def test_a_terminal_sees_each_tenth_of_a_second() -> None:
    reader, writer = os.openpty()
    with open(writer, "w") as terminal:
        assert Progress(total=2, file=terminal).mininterval == 0.1
    os.close(reader)
    assert Progress(total=2, file=io.StringIO()).mininterval == 0.1  # as a notebook's
