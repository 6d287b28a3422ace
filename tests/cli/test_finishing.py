"""What the main thread hands over is done in order, within limits, and its errors come back."""

import threading
import time

import pytest

from solo_family.cli import finishing
from solo_family.cli.finishing import Finishing


@pytest.mark.parametrize("is_threaded", [True, False])
def test_functions_are_called_in_order(is_threaded: bool) -> None:
    called: list[tuple[int, bool]] = []

    def note(index: int) -> None:
        called.append((index, threading.current_thread() is threading.main_thread()))

    with Finishing(is_threaded=is_threaded) as finish:
        for index in range(20):
            finish.make_room(10)
            finish(10, note, index)
    assert called == [(index, not is_threaded) for index in range(20)]


def test_room_is_made_by_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finishing, "MOST_PIXELS", 100)
    may_go = threading.Event()
    done: list[int] = []

    def work(index: int) -> None:
        may_go.wait(10)
        done.append(index)

    with Finishing(is_threaded=True) as finish:
        finish(60, work, 0)
        finish.make_room(40)
        finish(40, work, 1)
        assert done == []
        threading.Timer(0.1, may_go.set).start()
        finish.make_room(41)  # 60 leave, but 40 and 41 have room
        assert 0 in done
        finish.make_room(1000)  # alone, a picture has room however large it is
        assert done == [0, 1]


def test_an_error_comes_back_and_the_rest_is_dropped() -> None:
    done: list[int] = []
    may_go = threading.Event()

    def fail() -> None:
        may_go.wait(10)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Finishing(is_threaded=True) as finish:  # noqa: PT012
        finish(1, fail)
        finish(1, time.sleep, 0.3)
        finish(1, done.append, 1)
        may_go.set()
        finish.make_room(finishing.MOST_PIXELS)
    assert done == []


def test_ctrl_c_waits_for_what_was_predicted() -> None:
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt), Finishing(is_threaded=True) as finish:  # noqa: PT012
        finish(1, time.sleep, 0.1)
        finish(1, done.append, 1)
        raise KeyboardInterrupt
    assert done == [1]
