"""Types of errors: each definition in a picture of its own, and all against brute force."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solo_family.evaluation.coco_results import evaluate, read_results, read_truth
from solo_family.evaluation.error_types import ErrorTypes, find_error_types
from solo_family.evaluation.oracle import find_overlaps

from .scenes import dense, iou, prediction, random_scene, truth, write

BOX = (0, 0, 40, 40)
NEAR = (4, 0, 40, 40)  # IoU 36 / 44
FAR = (20, 0, 40, 40)  # IoU 20 / 60
ASIDE = (36, 0, 40, 40)  # IoU 4 / 76
ELSEWHERE = (100, 100, 40, 40)


def find(
    root: Path, annotations: list[dict], results: list[dict], threshold: float = 0.5
) -> ErrorTypes:
    images = max(item["image_id"] for item in [*annotations, *results, {"image_id": 1}])
    paths = write(root, annotations, results, images)
    dataset = read_truth(paths[0])
    ours = read_results(paths[1], dataset)
    baseline = evaluate(dataset, ours, iou_threshold=threshold)
    return find_error_types(baseline, dataset, ours, find_overlaps(dataset, ours))


CASES: dict[str, tuple[list[dict], list[dict], list[str], list[str]]] = {
    "correct": ([truth(BOX)], [prediction(NEAR)], ["correct"], ["found"]),
    "the other category's mask": (
        [truth(BOX, 7)],
        [prediction(NEAR)],
        ["wrong class"],
        ["mistaken"],
    ),
    "right category, too little of it": (
        [truth(BOX)],
        [prediction(FAR)],
        ["poor mask"],
        ["mistaken"],
    ),
    "both wrong": ([truth(BOX, 7)], [prediction(FAR)], ["class and mask"], ["missed"]),
    "twice": (
        [truth(BOX)],
        [prediction(BOX, score=0.4), prediction(NEAR, score=0.6)],
        ["duplicate", "correct"],
        ["found"],
    ),
    "nothing there": ([truth(BOX)], [prediction(ASIDE)], ["background"], ["missed"]),
    "no objects": ([], [prediction(BOX)], ["background"], []),
    "no predictions": ([truth(BOX)], [], [], ["missed"]),
    "within a crowd": ([truth(BOX, crowd=1)], [prediction((5, 5, 9, 9))], ["crowd"], ["crowd"]),
    "another category's crowd": (
        [truth(BOX, 7, crowd=1)],
        [prediction(BOX)],
        ["background"],
        ["crowd"],
    ),
    # A mask that fits is about the object that it fits, not about the neighbour it touches.
    "wrong class before poor mask": (
        [truth(FAR), truth(BOX, 7)],
        [prediction(BOX)],
        ["wrong class"],
        ["missed", "mistaken"],
    ),
    "poor mask before class and mask": (
        [truth((22, 0, 40, 40)), truth(FAR, 7)],
        [prediction(BOX)],
        ["poor mask"],
        ["mistaken", "missed"],
    ),
    "duplicate before wrong class": (
        [truth(BOX), truth(NEAR, 7)],
        [prediction(BOX, score=0.6), prediction(NEAR, score=0.4)],
        ["correct", "duplicate"],
        ["found", "missed"],
    ),
    # What was found by another isn't mistaken.
    "found and mistaken": (
        [truth(BOX)],
        [prediction(BOX, 7), prediction(BOX), prediction(FAR)],
        ["wrong class", "correct", "poor mask"],
        ["found"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_type_is_what_it_is_called(tmp_path: Path, name: str) -> None:
    annotations, results, predicted, true = CASES[name]
    types = find(tmp_path, annotations, results)
    assert types.predictions.tolist() == predicted
    assert types.truths.tolist() == true


def test_all_of_a_crowded_image_count(tmp_path: Path) -> None:
    """COCO itself looks at the best 100 of an image and category."""
    results = [prediction(ELSEWHERE, score=1 - i / 1000) for i in range(103)]
    types = find(tmp_path, [truth(BOX)], [*results, prediction(BOX, score=0.001)])
    assert types.predictions.tolist() == ["background"] * 103 + ["correct"]


def test_more_than_255_predictions(tmp_path: Path) -> None:
    results = [prediction(ELSEWHERE, image=1 + i % 3) for i in range(300)]
    assert set(find(tmp_path, [], results).predictions.tolist()) == {"background"}


@pytest.mark.parametrize("threshold", [0.3, 0.75, 1.0])
def test_the_threshold_decides_what_is_correct(tmp_path: Path, threshold: float) -> None:
    results = [prediction(BOX), prediction(NEAR, image=2), prediction(FAR, image=3)]
    types = find(tmp_path, [truth(BOX, image=i) for i in (1, 2, 3)], results, threshold)
    overlaps = [1, 36 / 44, 20 / 60]
    expected = ["correct" if value >= threshold else "poor mask" for value in overlaps]
    assert types.predictions.tolist() == expected


def test_an_error_has_the_size_of_its_object(tmp_path: Path) -> None:
    """Only without an object has it its own; 32 x 32 pixels are medium, 96 x 96 large."""
    annotations = [
        truth((0, 0, 31, 32)),
        truth((0, 0, 32, 32), image=2),
        truth((0, 0, 96, 96), image=3),
    ]
    results = [
        prediction((0, 0, 33, 33)),
        prediction((0, 0, 31, 31), image=2),
        prediction((0, 0, 96, 40), image=3),
        prediction((0, 0, 95, 95), image=4),
        prediction((0, 0, 10, 10), image=4),
    ]
    types = find(tmp_path, annotations, results)
    assert types.predictions.tolist() == ["correct"] * 2 + ["poor mask"] + ["background"] * 2
    assert types.prediction_sizes.tolist() == ["small", "medium", "large", "medium", "small"]
    assert types.truth_sizes.tolist() == ["small", "medium", "large"]


def brute_force(
    annotations: list[dict[str, Any]], results: list[dict[str, Any]], threshold: float
) -> tuple[list[str], list[str]]:
    """Types of predictions and of ground truth, one at a time, from dense masks."""
    types = [""] * len(results)
    truths = ["crowd" if annotation["iscrowd"] else "missed" for annotation in annotations]
    mistaken = set()
    overlaps: dict[int, list[float]] = defaultdict(list)
    for index, result in enumerate(results):
        for annotation in annotations:
            mask, other = dense(result), dense(annotation)
            if annotation["image_id"] != result["image_id"]:
                overlaps[index].append(0)
            elif annotation["iscrowd"]:
                overlaps[index].append(float((mask & other).sum() / mask.sum()))
            else:
                overlaps[index].append(iou(mask, other))

    def best(index: int, same: bool, crowd: int = 0, only: str = "") -> tuple[float, int]:
        found = [
            (overlap, number)
            for number, overlap in enumerate(overlaps[index])
            if annotations[number]["iscrowd"] == crowd
            and (annotations[number]["category_id"] == results[index]["category_id"]) == same
            and only in ("", truths[number])
        ]
        return max(found, default=(0, -1))

    for index in sorted(range(len(results)), key=lambda i: -results[i]["score"]):
        overlap, number = best(index, same=True, only="missed")
        if overlap >= threshold:
            types[index], truths[number] = "correct", "found"
        elif best(index, same=True, crowd=1)[0] >= threshold:
            types[index] = "crowd"
        elif best(index, same=True)[0] >= threshold:
            types[index] = "duplicate"
        elif best(index, same=False)[0] >= threshold:
            types[index] = "wrong class"
            mistaken.add(best(index, same=False)[1])
        elif best(index, same=True)[0] >= 0.1:
            types[index] = "poor mask"
            mistaken.add(best(index, same=True)[1])
        else:
            types[index] = "class and mask" if best(index, same=False)[0] >= 0.1 else "background"
    for number in mistaken:
        if truths[number] == "missed":
            truths[number] = "mistaken"
    return types, truths


@pytest.mark.parametrize("threshold", [0.5, 0.7])
@pytest.mark.parametrize("seed", range(4))
def test_types_equal_brute_force(tmp_path: Path, seed: int, threshold: float) -> None:
    annotations, results = random_scene(seed)
    types = find(tmp_path, annotations, results, threshold)
    expected, expected_truths = brute_force(annotations, results, threshold)
    assert types.predictions.tolist() == expected
    # pycocotools' reader sorts annotations by image; these are already.
    assert types.truths.tolist() == expected_truths
    assert len(np.unique(expected)) >= 5  # the scene is no easy one
