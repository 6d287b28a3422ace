"""The oracles against dense masks compared pixel by pixel, and the published AP of COCO's files."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from solo_family.evaluation.coco_results import (
    average_precision,
    evaluate,
    read_results,
    read_truth,
)
from solo_family.evaluation.oracle import find_overlaps, with_true_classes, with_true_masks

from .scenes import dense, prediction, random_scene, truth, write

# COCO's own file of results, val2014_fake_eval_res.txt: AP, AP50, AP75, and AP by size.
PUBLISHED = [0.320, 0.562, 0.299, 0.387, 0.310, 0.327]


def pycocotools_ap(annotations: str, results: list[dict[str, Any]]) -> list[float]:
    """AP, AP50, AP75, APs, APm, APl, as pycocotools' documentation has it computed."""
    coco = COCO(annotations)
    evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[:6].tolist()


def our_ap(dataset: COCO, results: list[dict[str, Any]]) -> list[float]:
    evaluation = evaluate(dataset, results)
    keys: list[dict[str, Any]] = [{}, {"iou_threshold": 0.5}, {"iou_threshold": 0.75}]
    keys += [{"size": size} for size in ("small", "medium", "large")]
    values = [average_precision(evaluation, **key) for key in keys]
    return [-1 if value is None else value / 100 for value in values]


def brute_force_oracle(
    annotations: list[dict[str, Any]], results: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Results with true masks, and with true classes, from dense masks alone."""
    masks, classes = list(results), list(results)
    for image in {result["image_id"] for result in results}:
        targets = [a for a in annotations if a["image_id"] == image and not a["iscrowd"]]
        indices = [i for i, result in enumerate(results) if result["image_id"] == image]
        if not targets:
            continue
        pixels = np.stack([dense(results[index]).ravel() for index in indices]).astype(np.float32)
        target_pixels = np.stack([dense(target).ravel() for target in targets]).astype(np.float32)
        intersections = pixels @ target_pixels.T
        unions = pixels.sum(1)[:, None] + target_pixels.sum(1) - intersections
        for index, overlaps in zip(indices, intersections / unions):
            best = targets[overlaps.argmax()]
            if overlaps.max() > 0:
                masks[index] = results[index] | {"segmentation": best["segmentation"]}
            if overlaps.max() >= 0.1:
                classes[index] = results[index] | {"category_id": best["category_id"]}
    return masks, classes


@pytest.fixture(scope="module")
def golden(data_root: Path) -> tuple[str, str]:
    folder = data_root / "eval_fixtures" / "cocoapi"
    return (
        str(folder / "instances_val2014_100.json"),
        str(folder / "instances_val2014_fakesegm100_results.json"),
    )


def test_what_was_not_replaced_has_the_published_ap(golden: tuple[str, str]) -> None:
    dataset = read_truth(golden[0])
    values = our_ap(dataset, read_results(golden[1], dataset))
    assert np.round(values, 3).tolist() == PUBLISHED


@pytest.mark.slow
def test_oracles_of_the_golden_files_equal_brute_force(golden: tuple[str, str]) -> None:
    annotations = json.loads(Path(golden[0]).read_text())["annotations"]
    coco = COCO(golden[0])
    for annotation in annotations:
        annotation["segmentation"] = coco.annToRLE(annotation)
    results = json.loads(Path(golden[1]).read_text())
    masks, classes = brute_force_oracle(annotations, results)

    dataset = read_truth(golden[0])
    ours = read_results(golden[1], dataset)
    overlaps = find_overlaps(dataset, ours)
    with_masks = with_true_masks(ours, overlaps, dataset)
    assert our_ap(dataset, with_masks) == pytest.approx(pycocotools_ap(golden[0], masks))
    with_classes = with_true_classes(ours, overlaps, dataset)
    assert our_ap(dataset, with_classes) == pytest.approx(pycocotools_ap(golden[0], classes))
    both = [m | {"category_id": c["category_id"]} for m, c in zip(masks, classes)]
    assert our_ap(dataset, with_true_classes(with_masks, overlaps, dataset)) == pytest.approx(
        pycocotools_ap(golden[0], both)
    )


@pytest.mark.parametrize("seed", range(5))
def test_oracles_of_random_scenes_equal_brute_force(tmp_path: Path, seed: int) -> None:
    annotations, results = random_scene(seed)
    paths = write(tmp_path, annotations, results, images=8)
    masks, classes = brute_force_oracle(annotations, results)
    dataset = read_truth(paths[0])
    ours = read_results(paths[1], dataset)
    overlaps = find_overlaps(dataset, ours)
    for result, expected in zip(with_true_masks(ours, overlaps, dataset), masks, strict=True):
        assert (dense(result) == dense(expected)).all()
    assert with_true_classes(ours, overlaps, dataset) == classes


def replaced(tmp_path: Path, annotations: list[dict], results: list[dict]) -> tuple[Any, Any]:
    """The only prediction with a true mask, and with a true class."""
    paths = write(tmp_path, annotations, results)
    dataset = read_truth(paths[0])
    ours = read_results(paths[1], dataset)
    overlaps = find_overlaps(dataset, ours)
    (mask,) = with_true_masks(ours, overlaps, dataset)
    (classed,) = with_true_classes(ours, overlaps, dataset)
    return mask, classed


def test_the_most_overlapped_mask_is_taken_whatever_its_class(tmp_path: Path) -> None:
    annotations = [truth((0, 0, 40, 40), 3), truth((10, 10, 40, 40), 7)]
    mask, classed = replaced(tmp_path, annotations, [prediction((12, 12, 40, 40), 3)])
    assert (dense(mask) == dense(annotations[1])).all()
    assert mask["category_id"] == 3
    assert classed["category_id"] == 7


def test_a_crowd_is_no_target(tmp_path: Path) -> None:
    annotations = [truth((0, 0, 40, 40), 7, crowd=1)]
    result = prediction((0, 0, 40, 40), 3)
    assert replaced(tmp_path, annotations, [result]) == (result, result)


def test_without_overlap_a_prediction_stays_as_it_is(tmp_path: Path) -> None:
    result = prediction((100, 100, 40, 40), 3)
    assert replaced(tmp_path, [truth((0, 0, 40, 40), 7)], [result]) == (result, result)
    assert replaced(tmp_path, [], [result]) == (result, result)


@pytest.mark.parametrize(("shift", "category"), [(32, 7), (34, 3)])
def test_a_class_is_taken_from_an_iou_of_a_tenth_on(
    tmp_path: Path, shift: int, category: int
) -> None:
    """(40 - 32) / (40 + 32) is above, (40 - 34) / (40 + 34) below."""
    result = prediction((shift, 0, 40, 40), 3)
    mask, classed = replaced(tmp_path, [truth((0, 0, 40, 40), 7)], [result])
    assert classed["category_id"] == category
    assert mask_util.area(mask["segmentation"]) == 40 * 40
    assert dense(mask)[0, 0]
