"""Panoptic quality against its definition, segment by segment, and on COCO's own example."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from solo_family.data.formats.panoptic_dataset import register_panoptic
from solo_family.evaluation.panoptic_quality import PanopticEvaluator, PanopticQuality

Segments = list[dict[str, Any]]


def reference(
    truth: np.ndarray, truths: Segments, guess: np.ndarray, guesses: Segments, category: int
) -> tuple[float, int, int, int]:
    """arXiv 1801.00868, section 4, with masks: (sum of IoU, TP, FP, FN) of a category."""
    listed = [t["id"] for t in truths]
    void = ~np.isin(truth, listed)
    of_category = [t for t in truths if t["category_id"] == category]
    iou_sum, matched_truths, matched_guesses = 0.0, set(), set()
    for t in of_category:
        for g in guesses:
            if g["category_id"] != category or t.get("iscrowd"):
                continue
            a, b = truth == t["id"], (guess == g["id"]) & ~void
            if not (a & b).any():
                continue
            iou = (a & b).sum() / (a | b).sum()
            if iou > 0.5:
                iou_sum += iou
                matched_truths.add(t["id"])
                matched_guesses.add(g["id"])
    crowd = np.isin(truth, [t["id"] for t in of_category if t.get("iscrowd")])
    false_positives = 0
    for g in guesses:
        region = guess == g["id"]
        if g["category_id"] != category or g["id"] in matched_guesses or not region.any():
            continue
        if (region & (void | crowd)).sum() <= 0.5 * region.sum():
            false_positives += 1
    objects = [t for t in of_category if not t.get("iscrowd")]
    return iou_sum, len(matched_truths), false_positives, len(objects) - len(matched_truths)


def picture(seed: int) -> tuple[np.ndarray, Segments, np.ndarray, Segments]:
    """Truth of rectangles, and a guess that is it, shifted and partly of other categories."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((40, 50), np.int64)
    for index in range(1, 9):
        y, x = rng.integers(0, 30, 2)
        truth[y : y + rng.integers(4, 20), x : x + rng.integers(4, 20)] = index * 1000
    guess = np.roll(truth, rng.integers(0, 3, 2), axis=(0, 1)) // 1000
    truths = [
        {"id": i, "category_id": i // 1000 % 3, "iscrowd": int(i == 5000)}
        for i in np.unique(truth).tolist()
        if i not in (0, 7000)
    ]
    guesses = [
        {"id": i, "category_id": i % 3 if rng.random() < 0.8 else 1}
        for i in np.unique(guess).tolist()
        if i
    ]
    return truth, truths, guess, guesses


def test_counts_are_those_of_the_definition() -> None:
    quality = PanopticQuality(3)
    expected = np.zeros((3, 4))
    for seed in range(12):
        image = picture(seed)
        quality.add(*image)
        expected += [reference(*image, category) for category in range(3)]
    actual = np.stack([quality.iou, quality.tp, quality.fp, quality.fn], axis=1)
    np.testing.assert_allclose(actual, expected)
    assert (expected > 0).all()
    iou, tp, fp, fn = expected[1:].T
    metrics = quality.metrics([1, 2])
    assert metrics["PQ"] == pytest.approx(100 * np.mean(iou / (tp + fp / 2 + fn / 2)))
    assert metrics["SQ"] == pytest.approx(100 * np.mean(iou / tp))
    assert metrics["RQ"] == pytest.approx(100 * np.mean(tp / (tp + fp / 2 + fn / 2)))


def test_categories_that_never_occur_do_not_count() -> None:
    quality = PanopticQuality(3)
    ids = np.ones((4, 4), np.int64)
    quality.add(ids, [{"id": 1, "category_id": 1}], ids, [{"id": 1, "category_id": 1}])
    assert quality.metrics(range(3)) == {"PQ": 100, "SQ": 100, "RQ": 100}
    assert quality.metrics([0, 2]) == {"PQ": 0, "SQ": 0, "RQ": 0}


@pytest.fixture
def coco_example(data_root: Path) -> str:
    root = data_root / "eval_fixtures" / "panopticapi" / "sample_data"
    name = "panoptic_example"
    if name not in DatasetCatalog.list():
        register_panoptic(
            name,
            str(root / "input_images"),
            str(root / "panoptic_examples"),
            str(root / "panoptic_examples.json"),
        )
    return name


def ground_truth(record: dict[str, Any]) -> tuple[torch.Tensor, Segments]:
    from PIL import Image

    colours = np.asarray(Image.open(record["pan_seg_file_name"])).astype(np.int64)
    ids = colours[..., 0] + 256 * colours[..., 1] + 256**2 * colours[..., 2]
    segments = [s for s in record["segments_info"] if not s["iscrowd"]]
    return torch.from_numpy(ids), [
        {"id": s["id"], "category_id": s["category_id"], "isthing": s["isthing"]} for s in segments
    ]


def test_cocos_example_against_itself_is_perfect(coco_example: str, tmp_path: Path) -> None:
    evaluator = PanopticEvaluator(coco_example, output_dir=str(tmp_path))
    for record in DatasetCatalog.get(coco_example):
        evaluator.process([record], [{"panoptic_seg": ground_truth(record)}])
    metrics = evaluator.evaluate()["panoptic_seg"]
    assert set(metrics) == {f"{m}{s}" for m in ("PQ", "SQ", "RQ") for s in ("", "_th", "_st")}
    assert all(value == pytest.approx(100) for value in metrics.values())
    written = json.loads((tmp_path / "panoptic_quality.json").read_text())
    assert written["categories"]["person"]["PQ"] == pytest.approx(100)


@pytest.mark.slow
def test_cocos_example_without_its_largest_segments(coco_example: str) -> None:
    evaluator = PanopticEvaluator(coco_example)
    names = MetadataCatalog.get(coco_example).stuff_classes
    expected = np.zeros((len(names), 4))
    for record in DatasetCatalog.get(coco_example):
        ids, segments = ground_truth(record)
        largest = max(segments, key=lambda s: int((ids == s["id"]).sum()))
        guesses = [s for s in segments if s is not largest]
        shifted = torch.roll(ids, (3, 5), (0, 1))
        evaluator.process([record], [{"panoptic_seg": (shifted, guesses)}])
        arguments = ids.numpy(), record["segments_info"], shifted.numpy(), guesses
        guess = np.where(np.isin(arguments[2], [g["id"] for g in guesses]), arguments[2], 0)
        expected += [
            reference(arguments[0], arguments[1], guess, guesses, category)
            for category in range(len(names))
        ]
    iou, tp, fp, fn = expected[expected[:, 1:].sum(1) > 0].T
    metrics = evaluator.evaluate()["panoptic_seg"]
    assert metrics["PQ"] == pytest.approx(100 * np.mean(iou / (tp + fp / 2 + fn / 2)))
    assert 10 < metrics["PQ"] < 90
