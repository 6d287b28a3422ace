"""COCO's average precision of images that count several times, or not at all.

I images, K categories, T thresholds of IoU, D predictions of a category, R recalls.
"""

from dataclasses import dataclass

import numpy as np

from .matches import Matches

_EPSILON = np.spacing(1)  # as in pycocotools


@dataclass(frozen=True)
class _Category:
    """The predictions of a category, best first: their images [D], right and wrong [T, D]."""

    images: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    truths: np.ndarray


class WeightedPrecision:
    """AP of a dataset in which each image occurs as often as its weight says.

    Args:
        matches: of an evaluation.
    """

    def __init__(self, matches: Matches) -> None:
        self._recalls = matches.recalls
        self._num_thresholds = len(matches.iou_thresholds)
        right, wrong = matches.right, matches.wrong
        self._categories = []
        for category in range(len(matches.category_ids)):
            own = np.flatnonzero(matches.categories == category)
            own = own[np.argsort(-matches.scores[own], kind="stable")]
            self._categories.append(
                _Category(
                    matches.images[own], right[:, own], wrong[:, own], matches.truths[:, category]
                )
            )

    def precision(self, weights: np.ndarray) -> np.ndarray:
        """Return precision at COCO's recalls.

        Args:
            weights: [I], how often each image occurs.

        Returns:
            float64 [T, K, R], 0 to 1; NaN for categories without ground truth.
        """
        shape = (self._num_thresholds, len(self._categories), len(self._recalls))
        precision = np.full(shape, np.nan)
        for index, category in enumerate(self._categories):
            count = float(weights @ category.truths)
            if count:
                precision[:, index] = self._sampled(category, weights, count)
        return precision

    def average(self, weights: np.ndarray) -> np.ndarray:
        """Return AP, float64 [T, K], 0 to 1; NaN for categories without ground truth."""
        return self.precision(weights).mean(axis=2)

    def _sampled(self, category: _Category, weights: np.ndarray, count: float) -> np.ndarray:
        own = weights[category.images]
        right, wrong = np.cumsum(category.right * own, 1), np.cumsum(category.wrong * own, 1)
        precision = right / (right + wrong + _EPSILON)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        # Recalls that are not reached have precision 0.
        padded = np.pad(envelope, ((0, 0), (0, 1)))
        return np.stack(
            [
                row[np.searchsorted(recall, self._recalls, side="left")]
                for row, recall in zip(padded, right / count)
            ]
        )


def mean(values: np.ndarray) -> float:
    """Return the mean of the values that are numbers; NaN if none is."""
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if numbers.size else float("nan")
