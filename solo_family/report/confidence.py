"""Which confidence threshold gives the best F1.

N predictions, S distinct scores.
"""

from dataclasses import dataclass

import numpy as np

from .matches import Matches


@dataclass(frozen=True)
class ByThreshold:
    """Precision, recall and F1 of the predictions whose scores are at least a threshold.

    Objects of all classes count alike, at the first IoU threshold of the matches (COCO's is 0.5).

    Attributes:
        scores: float64 [S], the thresholds, from high to low.
        precision: float64 [S], 0 to 1; likewise `recall` and `f1`.
        recall: float64 [S].
        f1: float64 [S].
    """

    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray

    def best(self) -> float | None:
        """Return the threshold with the best F1; None if nothing is found at any.

        It is half-way to the next lower score, so that no prediction is at its edge.
        """
        if not self.f1.size or not self.f1.max():
            return None
        place = int(self.f1.argmax())
        score = float(self.scores[place])
        below = float(self.scores[place + 1]) if place + 1 < len(self.scores) else 0.0
        middle = (score + below) / 2
        rounded = round(middle, 3)
        return rounded if below < rounded <= score else middle


def by_threshold(matches: Matches) -> ByThreshold:
    """Return precision, recall and F1 at every threshold at which they change."""
    counted = ~matches.ignored[0]
    scores, right = matches.scores[counted], matches.right[0][counted]
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    # The last prediction of each score: those of equal scores are kept together.
    last = np.flatnonzero(np.diff(scores, append=-np.inf))
    kept = last + 1.0
    found = np.cumsum(right)[last] if len(right) else np.zeros(0)
    truths = int(matches.truths.sum())
    return ByThreshold(
        scores=scores[last],
        precision=found / kept,
        recall=found / max(1, truths),
        f1=2 * found / (kept + truths) if len(kept) else np.zeros(0),
    )
