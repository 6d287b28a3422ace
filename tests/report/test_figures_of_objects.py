"""AP, thresholds and confusions against pycocotools and against counting by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from solo_family.evaluation.coco_results import (
    average_precision,
    evaluate,
    read_results,
    read_truth,
)
from solo_family.report.average_precision import WeightedPrecision, mean
from solo_family.report.bootstrap import intervals
from solo_family.report.confidence import by_threshold
from solo_family.report.confusion import confusion_of_objects
from solo_family.report.matches import Matches, matches_of
from solo_family.report.objects import judge
from solo_family.report.worst_objects import worst_first

from ..evaluation.scenes import dense, iou, prediction, random_scene, truth, write

Scene = tuple[COCO, list[dict[str, Any]], Matches]


def scene(
    root: Path, annotations: list[dict[str, Any]], predictions: list[dict[str, Any]], images: int
) -> Scene:
    root.mkdir(parents=True, exist_ok=True)
    paths = write(root, annotations, predictions, images)
    coco = read_truth(paths[0])
    results = read_results(paths[1], coco)
    evaluation = evaluate(coco, results, by_size=False)
    assert evaluation.eval["counts"][-2:] == [1, 1]  # sizes of objects, limits on detections
    return coco, results, matches_of(evaluation)


@pytest.mark.parametrize("seed", range(3))
def test_ap_is_that_of_pycocotools_also_of_images_that_occur_several_times(
    tmp_path: Path, seed: int
) -> None:
    images = 6
    annotations, predictions = random_scene(seed, images)
    coco, results, matches = scene(tmp_path / "once", annotations, predictions, images)
    evaluation = evaluate(coco, results)
    precision = WeightedPrecision(matches)
    once = precision.average(np.ones(images, int))
    assert 100 * mean(once) == pytest.approx(average_precision(evaluation), abs=1e-9)
    for place, category in enumerate(matches.category_ids):
        expected = average_precision(evaluation, category=category, iou_threshold=0.5)
        known = np.nan if expected is None else expected  # a class without objects
        assert 100 * once[0, place] == pytest.approx(known, abs=1e-9, nan_ok=True)
    times = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images))
    copies = [image + 1 for image, count in enumerate(times) for _ in range(count)]

    def copied(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The items of each copy; of equal scores those of the first copy come first."""
        return [
            {**item, "image_id": number}
            for number, image in enumerate(copies, 1)
            for item in items
            if item["image_id"] == image
        ]

    drawn = scene(tmp_path / "drawn", copied(annotations), copied(predictions), images)
    expected = average_precision(evaluate(*drawn[:2]))
    assert 100 * mean(precision.average(times)) == pytest.approx(expected, abs=1e-9)


def test_an_interval_is_that_of_the_mean() -> None:
    """Of a mean it is known: 1.96 standard errors to each side."""
    values = np.random.default_rng(0).normal(50, 10, 200)

    def figures(weights: np.ndarray) -> dict[str, float]:
        return {"mean": float(weights @ values / weights.sum())}

    found = intervals(figures, 200, 1)["mean"]
    error = 1.96 * values.std() / np.sqrt(200)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + error, abs=0.15 * error)
    assert intervals(figures, 200, 1)["mean"] == found  # seeded
    assert str(intervals(lambda weights: {"mean": 3.0}, 1, 1)["mean"]) == "3.0"


@pytest.mark.parametrize("seed", range(3))
def test_the_best_f1_is_that_of_every_threshold_tried(tmp_path: Path, seed: int) -> None:
    annotations, predictions = random_scene(seed)
    coco, results, matches = scene(tmp_path, annotations, predictions, 8)
    objects = sum(not one["iscrowd"] for one in annotations)

    def f1(threshold: float) -> float:
        kept = [one for one in results if one["score"] >= threshold]
        again = matches_of(evaluate(coco, kept))
        right, wrong = again.right[0].sum(), again.wrong[0].sum()
        return 2 * right / (right + wrong + objects)

    tried = [f1(one["score"]) for one in results]
    best = by_threshold(matches).best()
    assert f1(best) == pytest.approx(max(tried))
    assert by_threshold(matches).f1.max() == pytest.approx(max(tried))


def test_equal_scores_are_kept_together_and_nothing_found_has_no_best(tmp_path: Path) -> None:
    box = (10, 10, 30, 30)
    both = [prediction(box, score=0.6), prediction((100, 100, 20, 20), score=0.6)]
    matches = scene(tmp_path / "a", [truth(box)], both, 1)[2]
    thresholds = by_threshold(matches)
    assert thresholds.scores.tolist() == [0.6]
    assert thresholds.precision.tolist() == [0.5]
    assert thresholds.best() == 0.3
    assert by_threshold(scene(tmp_path / "b", [truth(box)], both[1:], 1)[2]).best() is None
    assert by_threshold(scene(tmp_path / "c", [truth(box)], [], 1)[2]).best() is None


def test_confusions_are_counted(tmp_path: Path) -> None:
    dog, cat, cow = 3, 7, 9
    boxes = [(0, 0, 40, 40), (50, 0, 40, 40), (100, 0, 40, 40), (0, 60, 40, 40)]
    annotations = [
        truth(boxes[0], dog),
        truth(boxes[1], cat),
        truth(boxes[2], cow),
        truth(boxes[3], dog, crowd=1),
    ]
    predictions = [
        prediction(boxes[0], dog, score=0.9),
        prediction((1, 1, 40, 40), dog, score=0.8),  # a second one: where no object is left
        prediction(boxes[1], cow, score=0.7),
        prediction((60, 100, 20, 20), cat, score=0.7),
        prediction(boxes[2], cow, score=0.2),  # below the threshold: missed
        prediction(boxes[3], dog, score=0.9),  # in a crowd: doesn't count
    ]
    coco, results, matches = scene(tmp_path, annotations, predictions, 1)
    found = confusion_of_objects(coco, results, matches, 0.5)
    expected = np.zeros((4, 4), int)  # dog, cat, cow, nothing
    expected[0, 0] = expected[3, 0] = expected[1, 2] = expected[3, 1] = expected[2, 3] = 1
    assert found.tolist() == expected.tolist()


def test_the_worst_images_come_first(tmp_path: Path) -> None:
    annotations, predictions = random_scene(4)
    coco, results, matches = scene(tmp_path, annotations, predictions, 8)
    judged = judge(coco, results, matches, 0.4)
    f1 = []
    for one in judged:
        objects = [a for a in coco.imgToAnns[one.image_id] if not a["iscrowd"]]
        assert len(one.found) + len(one.missed) == len(objects)
        for right in one.right:
            assert max(iou(dense(right), dense(a)) for a in objects) >= 0.5
        assert all(p["score"] >= 0.4 for p in [*one.right, *one.wrong])
        total = len(objects) + len(one.right) + len(one.wrong)
        f1.append(2 * len(one.right) / total if total else 1.0)
    worst = worst_first(judged)
    assert [one.f1 for one in worst] == sorted(value for value in f1 if value < 1)
