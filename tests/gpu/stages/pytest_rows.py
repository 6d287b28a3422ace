"""A plugin of pytest that makes rows of failures and skips as they come, and of the sum at the end.

Loaded with `-p tests.gpu.stages.pytest_rows`: a run that is ended early has said what it found.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from . import rows


class _Reporter:
    def __init__(self, strict: bool, may_skip: list[str]) -> None:
        self._strict = strict
        self._may_skip = {f"Skipped: {reason}" for reason in may_skip}
        self._counts: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._counts[report.outcome] += 1
        if report.failed:
            rows.add(report.nodeid, False, note=_last_line(report.longreprtext))
        elif report.skipped and self._strict and not hasattr(report, "wasxfail"):
            reason = _reason(report)
            rows.add(report.nodeid, reason in self._may_skip, note=f"skipped: {reason}")

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self._counts.items())
        rows.add("pytest", exitstatus == 0, note=f"exit status {int(exitstatus)}: {counts}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test is a row that fails")
    parser.addoption(
        "--may-skip", action="append", default=[], help="a reason for which it doesn't fail"
    )


def pytest_configure(config: pytest.Config) -> None:
    # With xdist the process that hands tests out sees every report; the workers keep quiet.
    if not hasattr(config, "workerinput") and rows.FILE in os.environ:
        strict, may_skip = config.getoption("--no-skips"), config.getoption("--may-skip")
        config.pluginmanager.register(_Reporter(strict, may_skip))


def _last_line(text: str) -> str:
    """The line that names the exception, where there is one, else the last."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
    return errors[0] if errors else (lines[-1] if lines else "")


def _reason(report: pytest.TestReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
