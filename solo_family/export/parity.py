"""Compare an exported model with the model that it was made from.

B images of C channels, n instances.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.structures import Instances
from torch import Tensor

from ..ops.run_masks import pixels_of
from .results import PredictedInstances, Prediction

# Differences up to this one count as equal.
_ROUNDING = 1e-6
# Scores that differ by no more than this count as nearly equal.
_NEAR = 0.05

# Maps the arguments of `export_forward` that the method uses to the graph's outputs, both by name.
Forward = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def cases(
    names: Sequence[str],
    sizes: list[tuple[int, int]],
    batch_size: int | None,
    threshold: float,
    channels: int = 3,
) -> dict[str, dict[str, Tensor]]:
    """Return the arguments that an exported graph is tried with, by a description of each case.

    The cases are an image of every size; one with as many candidates as possible; and one without
    candidates. The last two exist only where the graph takes a threshold. A graph for any number of
    images is tried with two, which it is traced with, and with one and three.

    Args:
        names: the names of the arguments of `export_forward` that the method uses.
        sizes: heights and widths.
        batch_size: B; None for any.
        threshold: the model's own.
        channels: C.
    """

    def given(
        size: tuple[int, int], seed: int, threshold: float, count: int = batch_size or 2
    ) -> dict[str, Tensor]:
        """Return the arguments for random images of one size."""
        values = {
            "images": random_images(count, size, seed, channels),
            "score_threshold": torch.tensor(threshold),
            "image_sizes": torch.tensor([[size[0] - 3, size[1] - 9]] * count),
        }
        return {name: values[name] for name in names}

    tried = {
        f"{size[0]} x {size[1]}": given(size, seed, threshold) for seed, size in enumerate(sizes)
    }
    if "score_threshold" in names:
        tried["every candidate"] = given(sizes[0], len(sizes), 0.0)
        tried["no candidate"] = given(sizes[0], len(sizes), 1.0)
    if batch_size is None:
        tried["1 image"] = given(sizes[-1], 0, threshold, 1)
        tried["3 images"] = given(sizes[0], 1, threshold, 3)
    return tried


def random_images(batch_size: int, size: tuple[int, int], seed: int, channels: int = 3) -> Tensor:
    """Return blobs of colour with some noise: float32 [B, C, H, W], integers from 0 to 255."""
    generator = torch.Generator().manual_seed(seed)
    blobs = torch.rand((batch_size, channels, 6, 8), generator=generator)
    images = torch.nn.functional.interpolate(blobs, size, mode="bicubic") * 300 - 20
    noise = torch.randn(images.shape, generator=generator) * 5
    return (images + noise).clamp(0, 255).round()


# Reduces the differences of single instances to one number: their maximum, or their mean.
Summary = Callable[[Sequence[float]], float]


def output_error(
    expected: dict[str, Tensor], actual: dict[str, Tensor], summary: Summary = max
) -> float:
    """Return the greatest difference between the outputs of two graphs.

    Instances are sorted by score, whose order rounding may change: each instance is compared with
    the most similar one. At the limit on their number, rounding may also exchange one for another
    of nearly the same score, which counts as equal.

    Args:
        expected: outputs of the one graph, by name.
        actual: outputs of the other, by name.
        summary: the mean for networks of half precision, in which rounding may move a score past
            the threshold, so that one graph has an instance that the other lacks.
    """
    if not all(value.isfinite().all() for value in actual.values()):
        return float("inf")
    if "scores" not in expected:
        return max(_difference(expected[name], actual[name]) for name in expected)
    if any(expected[name].shape != actual[name].shape for name in expected):
        return float("inf")
    error = summary((expected["scores"] - actual["scores"]).abs().flatten().tolist())
    for image in range(len(expected["scores"])):
        one, other = (
            [outputs[name][image] for name in ("scores", "classes", "masks")]
            for outputs in (expected, actual)
        )
        last = float(one[0][-1])
        kept = one[0] > (last + _NEAR if last > 0 else 0)
        matched = _matched_error([value[kept] for value in one], other, _difference, summary)
        error = max(error, matched)
    return error


def instance_error(expected: Instances, found: PredictedInstances, summary: Summary = max) -> float:
    """Return the greatest difference between instances: of their scores, or the share of pixels."""
    expected = expected[expected.scores > 0]
    if len(expected) != len(found) and summary is max:
        return 1.0
    return _matched_error(
        [expected.scores, expected.pred_classes, pixels_of(expected.pred_masks)],
        [torch.from_numpy(value) for value in (found.scores, found.classes, found.masks)],
        lambda a, b: float((a ^ b).float().mean()),
        summary,
    )


def _matched_error(
    expected: list[Tensor],
    actual: list[Tensor],
    difference: Callable[[Tensor, Tensor], float],
    summary: Summary,
) -> float:
    """Return the difference between instances and the most similar ones of their class.

    Args:
        expected: scores [n], classes [n] and masks [n, h, w].
        actual: likewise.
        difference: function that returns the difference of two masks, at most 1.
        summary: reduces the differences to one number.
    """
    scores, classes, masks = actual
    errors = [0.0]
    for rank, (score, category, mask) in enumerate(zip(*expected)):
        gaps = (scores - score).abs()
        near = (gaps <= _NEAR) & (classes == category)
        best = 1.0
        # The instance of the same rank is nearly always the most similar; if it is equal, no other
        # is compared.
        for index in sorted(near.nonzero()[:, 0].tolist(), key=lambda index: abs(index - rank)):
            best = min(best, max(float(gaps[index]), difference(mask, masks[index])))
            if best <= _ROUNDING:
                break
        errors.append(best)
    return summary(errors)


def _difference(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    return float((a.double() - b.double()).abs().max()) if a.numel() else 0.0


def prediction_error(
    expected: dict[str, Any], prediction: Prediction, summary: Summary = max
) -> float:
    """Return the greatest difference between the results of one image.

    Args:
        expected: the model's results, in detectron2's form.
        prediction: the exported model's.
        summary: see `output_error`.
    """
    error = 0.0
    if prediction.instances is not None:
        error = instance_error(expected["instances"].to("cpu"), prediction.instances, summary)
    if prediction.sem_seg is not None:
        sem_seg = torch.from_numpy(prediction.sem_seg)
        error = max(error, _difference(expected["sem_seg"].cpu(), sem_seg))
    if prediction.panoptic_seg is not None:
        ids, segments = expected["panoptic_seg"]
        found_ids, found = prediction.panoptic_seg
        names = [[segment["category_id"] for segment in part] for part in (segments, found)]
        if names[0] != names[1]:
            return 1.0
        error = max(error, float((ids.cpu() != torch.from_numpy(found_ids)).float().mean()))
    return error
