"""The time that is left is right within 30 % after a tenth, whatever the first iterations take."""

import logging
from collections.abc import Callable

import pytest
from detectron2.utils.events import EventStorage

from solo_family.engine.eta import Eta
from solo_family.engine.printer import MetricPrinter

TOTAL, BATCH = 1000, 4


def told_and_true(
    step: Callable[[int], float], evaluation: float, period: int, images: int, at: int
) -> tuple[float, float]:
    """Returns what the ETA says after some iterations of a simulated run, and what is left."""
    now = [0.0]
    eta = Eta(period, lambda: images, BATCH, clock=lambda: now[0])
    told = 0.0
    told_at = 0.0
    for iteration in range(TOTAL):
        eta.begin(iteration, 0)
        now[0] += step(iteration)
        finished = iteration + 1
        if images and period and finished % period == 0 and finished < TOTAL:
            now[0] += evaluation
        if finished == at:
            told, told_at = eta.left(finished, TOTAL), now[0]
    return told, now[0] + (evaluation if images else 0) - told_at


@pytest.mark.parametrize(
    ("step", "evaluation", "period", "images"),
    [
        (lambda i: 10.0 if i < 50 else 1.0, 0.0, 0, 0),  # a slow start
        (lambda i: 60.0 if i == 0 else 1.0, 0.0, 0, 0),
        (lambda i: 8.0 if i % 10 == 0 else 0.5, 0.0, 0, 0),  # every tenth batch is waited for
        (lambda i: 10.0 if i < 50 else 1.0, 200.0, 50, 2400),  # evaluations, one of them measured
        (lambda i: 1.0, 150.0, 200, 2400),  # evaluations that have not been measured
        (lambda i: 1.0, 600.0, 0, 6000),  # one after the last iteration
    ],
)
def test_within_thirty_percent_after_a_tenth(
    step: Callable[[int], float], evaluation: float, period: int, images: int
) -> None:
    told, true = told_and_true(step, evaluation, period, images, at=TOTAL // 10)
    assert told == pytest.approx(true, rel=0.3)


def test_a_resumed_run_measures_its_own_iterations() -> None:
    now = [100.0]
    eta = Eta(0, lambda: 0, BATCH, clock=lambda: now[0])
    eta.begin(500, 500)
    assert eta.left(500, TOTAL) is None
    now[0] += 2
    eta.begin(501, 500)
    assert eta.left(501, TOTAL) == 2 * 499


def test_a_printer_of_other_code_needs_no_eta(caplog: pytest.LogCaptureFixture) -> None:
    with EventStorage(9) as storage, caplog.at_level(logging.INFO, "solo_family.train"):
        printer = MetricPrinter(TOTAL)
        printer.write()
        storage.put_scalar("time", 2.0)
        printer.write()
    texts = [record.getMessage() for record in caplog.records]
    assert texts[0].startswith("eta: ?  iter: 10/1000")
    assert texts[1].startswith("eta: 0:33:00  iter: 10/1000")  # 990 of 2 s each
