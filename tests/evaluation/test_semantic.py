"""Metrics of semantic segmentation from label images of several kinds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from PIL import Image

from solo_family.data.formats.semantic_dataset import register_semantic
from solo_family.errors import DataError
from solo_family.evaluation import semantic
from solo_family.evaluation.semantic import SemanticEvaluator

K = 3


def write(root: Path, labels: list[np.ndarray], name: str) -> str:
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for index, label in enumerate(labels):
        image = np.zeros((*label.shape, 3), np.uint8)
        Image.fromarray(image).save(root / "images" / f"{index}.jpg")
        Image.fromarray(label).save(root / "labels" / f"{index}.png")
    register_semantic(name, str(root / "images"), str(root / "labels"), ["a", "b", "c"])
    return name


def scores(labels: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(labels.astype(np.int64)), K).permute(
        2, 0, 1
    )


@pytest.mark.parametrize("takes_loader", [semantic._TAKES_LOADER, False], ids=["", "0.6"])
@pytest.mark.parametrize(("dtype", "void"), [(np.uint8, 255), (np.uint16, 65535)])
def test_metrics_are_those_of_counted_pixels(
    tmp_path: Path,
    dtype: type,
    void: int,
    takes_loader: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether detectron2 takes a function that reads labels, or is 0.6, which takes none."""
    monkeypatch.setattr(semantic, "_TAKES_LOADER", takes_loader)
    rng = np.random.default_rng(0)
    # The third class never appears in the truth, but is predicted.
    truths: list[np.ndarray] = [rng.integers(0, 2, (8, 10)).astype(dtype) for _ in range(2)]
    truths[0][:, :2] = void
    guesses = [np.where(rng.random((8, 10)) < 0.3, 2, truth).astype(np.int64) for truth in truths]
    guesses[0][:, :2] = 1
    name = write(tmp_path, truths, f"semantic_{void}_{takes_loader}_{tmp_path.name}")
    evaluator = SemanticEvaluator(name)
    evaluator.reset()
    for record, guess in zip(DatasetCatalog.get(name), guesses):
        evaluator.process([record], [{"sem_seg": scores(guess)}])
    metrics = evaluator.evaluate()["sem_seg"]
    known = np.concatenate([(t != void).ravel() for t in truths])
    truth = np.concatenate([t.ravel() for t in truths])[known]
    guess = np.concatenate([g.ravel() for g in guesses])[known]
    accuracy = (truth == guess).mean()
    iou = [
        ((truth == c) & (guess == c)).sum() / ((truth == c) | (guess == c)).sum() for c in (0, 1)
    ]
    weights = [(truth == c).mean() for c in (0, 1)]
    assert metrics["pACC"] == pytest.approx(100 * accuracy)
    assert metrics["mIoU"] == pytest.approx(100 * np.mean(iou))
    assert metrics["fwIoU"] == pytest.approx(100 * np.dot(iou, weights))
    assert metrics["final_score"] == pytest.approx(50 * (accuracy + np.mean(iou)))
    assert np.isnan(metrics["IoU-c"])
    # Each class in an image is a segment: those of the third are false positives.
    qualities = []
    for c in range(K):
        iou_sum, tp, fp, fn = 0.0, 0, 0, 0
        for t, g in zip(truths, guesses):
            a, b = t == c, (g == c) & (t != void)
            overlap = (a & b).sum() / max(1, (a | b).sum())
            if overlap > 0.5:
                iou_sum, tp = iou_sum + overlap, tp + 1
            else:
                fn += a.any()
                fp += b.any()
        qualities.append(iou_sum / (tp + fp / 2 + fn / 2))
    assert metrics["PQ_st"] == pytest.approx(100 * np.mean(qualities))


def test_a_wrong_label_is_named(tmp_path: Path) -> None:
    name = write(tmp_path, [np.full((4, 4), 7, np.uint8)], "semantic_wrong")
    evaluator = SemanticEvaluator(name)
    evaluator.reset()
    with pytest.raises(DataError, match=r"0\.png has label 7, but there are 3 classes"):
        evaluator.process(DatasetCatalog.get(name), [{"sem_seg": torch.zeros(K, 4, 4)}])


def test_labels_of_another_size_than_their_image_are_named(tmp_path: Path) -> None:
    truth = np.zeros((8, 10), np.uint8)
    name = write(tmp_path, [truth], f"semantic_size_{tmp_path.name}")
    Image.fromarray(truth[:6]).save(tmp_path / "labels" / "0.png")
    evaluator = SemanticEvaluator(name)
    evaluator.reset()
    with pytest.raises(DataError, match=r"0\.png is 10x6 pixels, but its image .* is 10x8\. Exp"):
        evaluator.process(DatasetCatalog.get(name), [{"sem_seg": scores(truth)}])
