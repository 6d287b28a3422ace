"""Items computed in a thread come in order, not too many, and with their errors."""

import threading
import time
from collections.abc import Iterator

import pytest

from solo_family.data.loading.ahead import ahead


def test_items_come_in_order_and_at_most_count_before_they_are_asked_for() -> None:
    begun: list[int] = []
    threads = set()

    def items() -> Iterator[int]:
        for index in range(10):
            begun.append(index)
            threads.add(threading.current_thread())
            yield index

    got = []
    for item in ahead(items(), 3, "An item"):
        time.sleep(0.01)
        got.append(item)
        assert len(begun) <= len(got) + 3
    assert got == [*range(10)]
    assert threads.isdisjoint({threading.current_thread()})
    assert len(threads) == 1
    threads.clear()
    assert [*ahead(items(), 0, "An item")] == [*range(10)]
    assert threads == {threading.current_thread()}


def test_an_error_comes_in_its_place() -> None:
    items = ahead((6 // (3 - index) for index in range(9)), 2, "An item")
    assert [next(items) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(items)


def test_who_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    for item in ahead(iter(range(100)), 2, "An item"):
        if item == 3:
            break
    for _ in range(100):
        if threading.active_count() == before:
            break
        time.sleep(0.01)
    assert threading.active_count() == before
