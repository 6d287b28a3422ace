"""What a training shows of itself when it has ended: curves, errors, and how sure the figures are.

Everything is computed from what a run's folder holds: metrics.json, and the predictions that the
last evaluation has written. No model is built.
"""

from pathlib import Path


def report_path(run: Path) -> Path:
    """Return the path of the report in a run's folder."""
    return run / "report" / "report.md"
