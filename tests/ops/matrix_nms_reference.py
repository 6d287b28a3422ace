"""Matrix NMS in float64, one column after another, with what its results promise."""

import math

import numpy as np
from torch import Tensor


def by_score(scores: np.ndarray) -> list[int]:
    """Candidates from the best to the worst: NaN first, of equal ones the earlier first."""

    def key(n: int) -> tuple[bool, float, int]:
        unknown = math.isnan(scores[n])
        return not unknown, 0.0 if unknown else -scores[n], n

    return sorted(range(len(scores)), key=key)


def reference(
    masks: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    kernel: str,
    sigma: float = 2.0,
    pre_nms: int | None = None,
) -> dict[int, float]:
    """The decayed score of each of bool masks [N, ...] that takes part, by its index."""
    order = by_score(scores)[:pre_nms]
    flat = masks.reshape(len(masks), math.prod(masks.shape[1:]))[order].astype(np.float64)
    areas, common = flat.sum(1), flat @ flat.T
    union = areas[:, None] + areas - common
    iou = np.where(union > 0, common / np.maximum(union, 1), 0)
    iou *= labels[order][:, None] == labels[order]
    iou = np.triu(iou, 1)
    compensation = iou.max(0, initial=0)
    decayed = {}
    for j, n in enumerate(order):
        better, held = iou[:j, j], compensation[:j]
        if kernel == "gaussian":
            ratios = np.exp(-sigma * better**2) / np.exp(-sigma * held**2)
        else:
            ratios = (1 - better[held < 1]) / (1 - held[held < 1])
        decayed[n] = float(scores[n] * ratios.min(initial=1))
    return decayed


def assert_equals_reference(
    order: Tensor, decayed: Tensor, scores: np.ndarray, expected: dict[int, float]
) -> None:
    """Every candidate once, with its decayed score, in the order that is promised."""
    assert sorted(order.tolist()) == sorted(expected)
    values = [expected[n] for n in order.tolist()]
    np.testing.assert_allclose(decayed.tolist(), values, rtol=0, atol=1e-6)
    place = {n: i for i, n in enumerate(by_score(scores))}
    keys = [
        (not math.isnan(value), -value if not math.isnan(value) else 0.0, place[n])
        for value, n in zip(decayed.tolist(), order.tolist())
    ]
    assert keys == sorted(keys)
