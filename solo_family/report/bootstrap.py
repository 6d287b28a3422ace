"""How much a figure would change with other images: the bootstrap (Efron, 1979), seeded.

I images.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..progress import Progress

_SAMPLES, _FEW_SAMPLES = 1000, 200
# Above as many terms of a figure fewer samples are drawn.
_MANY_TERMS = 200_000
_PERCENTILES = (2.5, 97.5)
_SECONDS_WITHOUT_PROGRESS = 2


@dataclass(frozen=True)
class Interval:
    """A figure, and the interval that 95 % of the samples are in; NaN where it has no value."""

    value: float
    low: float
    high: float

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "-"
        if np.isnan(self.low):
            return f"{self.value:.1f}"
        return f"{self.value:.1f} ({self.low:.1f} to {self.high:.1f})"


def intervals(
    figures: Callable[[np.ndarray], dict[str, float]], num_images: int, num_terms: int
) -> dict[str, Interval]:
    """Return figures of a dataset with the intervals that they have for images drawn at random.

    Each sample draws as many images as there are, some of them several times. A sample in which a
    figure has no value is left out of its interval.

    Args:
        figures: computes them from how often each image occurs, int64 [I].
        num_images: I; of a single one there are no intervals.
        num_terms: how much work `figures` is.
    """
    whole = figures(np.ones(num_images, np.int64))
    samples: dict[str, list[float]] = {name: [] for name in whole}
    count = _SAMPLES if num_terms <= _MANY_TERMS else _FEW_SAMPLES
    random = np.random.default_rng(0)
    share = np.full(num_images, 1 / max(1, num_images))
    draws = range(count if num_images > 1 else 0)
    for _ in Progress(
        draws, "interval", unit="sample", delay=_SECONDS_WITHOUT_PROGRESS, leave=False
    ):
        for name, value in figures(random.multinomial(num_images, share)).items():
            samples[name].append(value)
    return {name: _interval(value, np.array(samples[name])) for name, value in whole.items()}


def _interval(value: float, samples: np.ndarray) -> Interval:
    samples = samples[~np.isnan(samples)]
    if not samples.size:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(samples, _PERCENTILES)
    return Interval(value, float(low), float(high))
