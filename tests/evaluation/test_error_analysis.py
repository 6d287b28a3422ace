"""Counts that add up, and what fixing adds to AP, against lists of scores kept by hand."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solo_family.evaluation.coco_results import evaluate, read_results, read_truth
from solo_family.evaluation.error_analysis import analyse_errors
from solo_family.evaluation.error_types import find_error_types
from solo_family.evaluation.oracle import find_overlaps

from .scenes import CATEGORIES, prediction, random_scene, truth, write

ERRORS = ["wrong class", "poor mask", "class and mask", "duplicate", "background", "missed"]
BOX = (0, 0, 40, 40)
ELSEWHERE = (100, 100, 40, 40)


def analyse(
    root: Path, annotations: list[dict], results: list[dict], threshold: float = 0.5
) -> dict[str, Any]:
    images = max(item["image_id"] for item in [*annotations, *results, {"image_id": 1}])
    paths = write(root, annotations, results, images)
    dataset = read_truth(paths[0])
    return analyse_errors(dataset, read_results(paths[1], dataset), threshold)


def average_precision(entries: list[tuple[float, bool]], num_truths: int) -> float:
    """COCO's AP at one threshold: the mean of the best precision from each of 101 recalls on."""
    entries = sorted(entries, reverse=True)
    curve, correct = [], 0
    for rank, (_, is_correct) in enumerate(entries, start=1):
        correct += is_correct
        curve.append((correct / num_truths, correct / rank))
    recalls = np.linspace(0, 1, 101)
    return float(np.mean([max((p for r, p in curve if r >= at), default=0) for at in recalls]))


def ledger(
    annotations: list[dict], results: list[dict], types: Any, mended: str | None
) -> dict[int, float]:
    """AP of each category, with the errors of one type fixed as TIDE does: on paper."""
    entries: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    num_truths: dict[int, int] = defaultdict(int)
    for annotation, kind in zip(annotations, types.truths):
        if kind != "crowd" and not (mended == kind == "missed"):
            num_truths[annotation["category_id"]] += 1
    now_found = set()
    for index in sorted(range(len(results)), key=lambda i: -results[i]["score"]):
        result, kind, target = results[index], types.predictions[index], int(types.targets[index])
        category, is_correct = result["category_id"], kind == "correct"
        if kind == "crowd":
            continue
        if kind == mended:
            mendable = kind in ("wrong class", "poor mask") and types.truths[target - 1] != "found"
            if not mendable or target in now_found:
                continue
            now_found.add(target)
            category, is_correct = annotations[target - 1]["category_id"], True
        entries[category].append((result["score"], is_correct))
    return {
        category: 100 * average_precision(entries[category], number)
        for category, number in num_truths.items()
        if number
    }


@pytest.mark.parametrize("seed", range(6))
def test_mending_adds_what_a_ledger_says(tmp_path: Path, seed: int) -> None:
    annotations, results = random_scene(seed)
    analysis = analyse(tmp_path, annotations, results)
    dataset = read_truth(str(tmp_path / "truth.json"))
    baseline = evaluate(dataset, results, iou_threshold=0.5)
    types = find_error_types(baseline, dataset, results, find_overlaps(dataset, results))
    before = ledger(annotations, results, types, None)
    assert analysis["AP_at_threshold"]["all"] == pytest.approx(np.mean(list(before.values())))
    for error in ERRORS:
        after = ledger(annotations, results, types, error)
        gain = np.mean(list(after.values())) - np.mean(list(before.values()))
        assert analysis["gain"][error]["all"] == pytest.approx(gain, abs=1e-6), error
        for category in analysis["categories"]:
            identity = category["id"]
            if identity in after:
                expected = after[identity] - before[identity]
                assert category["gain"][error]["all"] == pytest.approx(expected, abs=1e-6)
                assert expected >= -1e-6


@pytest.mark.parametrize("seed", range(3))
def test_every_mask_is_in_one_bin(tmp_path: Path, seed: int) -> None:
    annotations, results = random_scene(seed)
    analysis = analyse(tmp_path, annotations, results)
    for part, items in (("predictions", results), ("ground_truth", annotations)):
        bins = analysis[part]
        assert sum(sizes["all"] for sizes in bins.values()) == len(items)
        for kind, sizes in bins.items():
            assert sizes["all"] == sizes["small"] + sizes["medium"] + sizes["large"]
            for size, number in sizes.items():
                by_category = [c[part][kind][size] for c in analysis["categories"]]
                assert sum(by_category) == number
        for category in analysis["categories"]:
            own = [item for item in items if item["category_id"] == category["id"]]
            assert sum(sizes["all"] for sizes in category[part].values()) == len(own)


def gains(analysis: dict[str, Any]) -> list[float]:
    return [round(analysis["gain"][error]["all"], 3) for error in ERRORS]


@pytest.mark.parametrize(
    ("error", "index"),
    [
        (prediction(BOX, 7, image=2, score=0.8), 0),
        (prediction((20, 0, 40, 40), image=2, score=0.8), 1),
        (None, 5),
    ],
)
def test_one_of_two_objects_is_lost_to_its_error_alone(
    tmp_path: Path, error: dict | None, index: int
) -> None:
    annotations = [truth(BOX), truth(BOX, image=2)]
    results = [prediction(BOX, score=0.9)] + ([error] if error else [])
    expected = [0.0] * 6
    # 51 of the 101 recalls are at most a half.
    expected[index] = 100 * 50 / 101
    assert gains(analyse(tmp_path, annotations, results)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("error", "index"),
    [
        (prediction((0, 20, 40, 40), image=3, score=0.8), 2),
        (prediction(BOX, score=0.8), 3),
        (prediction(ELSEWHERE, score=0.8), 4),
    ],
)
def test_a_false_prediction_before_a_correct_one_costs(
    tmp_path: Path, error: dict, index: int
) -> None:
    """Two dogs and a cow are found; by score, the false dog lies between the two."""
    annotations = [truth(BOX), truth(BOX, image=2), truth(BOX, 9, image=3)]
    results = [
        prediction(BOX, score=0.9),
        prediction(BOX, image=2, score=0.5),
        prediction(BOX, 9, image=3),
        error,
    ]
    expected = [0.0] * 6
    # Half of the recalls have a precision of 2/3, in one of two categories.
    expected[index] = 100 * 50 / 101 / 3 / 2
    assert gains(analyse(tmp_path, annotations, results)) == pytest.approx(expected, abs=1e-3)


def test_the_best_scored_mistake_becomes_correct_and_no_second(tmp_path: Path) -> None:
    mistakes = [prediction(BOX, 7, score=score) for score in (0.3, 0.9, 0.6)]
    false = prediction(ELSEWHERE, 3, score=0.8)
    analysis = analyse(tmp_path, [truth(BOX)], [*mistakes, false])
    # Correct at 0.9, before the background at 0.8.
    assert analysis["gain"]["wrong class"]["all"] == pytest.approx(100)


def test_a_new_class_displaces_no_ranked_prediction(tmp_path: Path) -> None:
    """A category with COCO's 100 predictions of an image gets one more, and keeps its last."""
    dogs = [prediction(ELSEWHERE, score=0.5)] + [
        prediction((100, 0, 20, 20), score=0.4 - i / 1000) for i in range(98)
    ]
    last = prediction((60, 60, 30, 30), score=0.01)
    cat = prediction(BOX, 7, score=0.9)
    annotations = [truth(BOX), truth(ELSEWHERE), truth((60, 60, 30, 30))]
    analysis = analyse(tmp_path, annotations, [*dogs, last, cat])
    mended = analysis["AP_at_threshold"]["all"] + analysis["gain"]["wrong class"]["all"]
    # Recalls up to 2/3 at precision 1, then 3 of 101 are correct.
    assert mended == pytest.approx(100 * (67 + 34 * 3 / 101) / 101, abs=1e-3)


@pytest.mark.slow
def test_ap_of_a_crowded_image_is_that_of_the_evaluation(tmp_path: Path) -> None:
    """Of 150 objects, which COCO's limit of 100 would make an AP of 67."""
    boxes = [(10 * (i % 15), 10 * (i // 15), 8, 8) for i in range(150)]
    analysis = analyse(tmp_path, [truth(box) for box in boxes], [prediction(b) for b in boxes])
    for metrics in analysis["oracles"].values():
        assert metrics["AP"] == pytest.approx(100)
    assert analysis["predictions"]["correct"]["all"] == 150
    assert gains(analysis) == [0] * 6


def test_oracles_of_masks_and_classes_add_up(tmp_path: Path) -> None:
    """A third of a cat, taken for a dog: only both oracles together make it right."""
    analysis = analyse(tmp_path, [truth(BOX, 7)], [prediction((20, 0, 40, 40), 3)])
    assert {name: metrics["AP"] for name, metrics in analysis["oracles"].items()} == {
        "as predicted": 0,
        "true masks": 0,
        "true classes": 0,
        "true masks and classes": pytest.approx(100),
    }


def test_without_predictions_all_is_missed(tmp_path: Path) -> None:
    analysis = analyse(tmp_path, [truth(BOX), truth(BOX, 7)], [])
    assert {metrics["AP"] for metrics in analysis["oracles"].values()} == {0}
    assert gains(analysis) == [0, 0, 0, 0, 0, 100]
    assert analysis["ground_truth"]["missed"]["all"] == 2
    assert analysis["categories"][0]["gain"]["missed"]["all"] == 100


def test_a_category_that_was_all_missed_leaves_the_mean(tmp_path: Path) -> None:
    """As COCO leaves out categories without ground truth."""
    annotations = [truth(BOX), truth(ELSEWHERE, 7)]
    analysis = analyse(tmp_path, annotations, [prediction(BOX)])
    assert analysis["AP_at_threshold"]["all"] == pytest.approx(50)
    assert analysis["gain"]["missed"]["all"] == pytest.approx(50)


def test_without_ground_truth_there_is_nothing_to_lose(tmp_path: Path) -> None:
    analysis = analyse(tmp_path, [], [prediction(BOX)])
    assert analysis["oracles"]["true masks"]["AP"] is None
    assert {sizes["all"] for sizes in analysis["gain"].values()} == {None}
    assert analysis["predictions"]["background"]["all"] == 1
    assert [category["name"] for category in analysis["categories"]] == [
        category["name"] for category in CATEGORIES
    ]
