"""The report's figures of pixels and segments are those of the evaluations."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from PIL import Image

from solo_family.__main__ import main
from solo_family.config import get_cfg
from solo_family.data.formats.register import check_datasets
from solo_family.evaluation.panoptic_quality import PanopticEvaluator
from solo_family.evaluation.semantic import SemanticEvaluator
from solo_family.report.labels import report_panoptic, report_semantic

from ..coco_folder import write_cfg
from ..conftest import tiny_cfg
from ..data.segments import write_panoptic, write_semantic


def test_semantic_labels(tmp_path: Path) -> None:
    name = write_semantic(tmp_path / "data")
    check_datasets([name])
    evaluator = SemanticEvaluator(name, str(tmp_path))
    evaluator.reset()
    rng = np.random.default_rng(0)
    for record in DatasetCatalog.get(name):
        labels = np.asarray(Image.open(record["sem_seg_file_name"])).astype(np.int64)
        guess = np.where(rng.random(labels.shape) < 0.2, 1, np.where(labels > 2, 0, labels))
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(guess), 3).permute(2, 0, 1)
        evaluator.process([record], [{"sem_seg": one_hot}])
    metrics = evaluator.evaluate()["sem_seg"]
    section = report_semantic(get_cfg(), name, tmp_path, tmp_path, "")
    for metric in ("mIoU", "pACC"):
        value, low, high = section.numbers[metric]
        assert value == pytest.approx(metrics[metric], abs=1e-5)
        assert low <= value <= high
    for row in section.numbers["classes"]:
        assert 100 * row["IoU"] == pytest.approx(metrics[f"IoU-{row['class']}"], abs=1e-4)
        assert 100 * row["recall"] == pytest.approx(metrics[f"ACC-{row['class']}"], abs=1e-4)
    assert {"confusion.csv", "confusion.png", "worst.jpg", "classes.csv"} <= {
        path.name for path in tmp_path.iterdir()
    }
    matrix = (tmp_path / "confusion.csv").read_text().splitlines()
    assert matrix[0] == "true \\ predicted,a,b,c"


def test_panoptic_segments(tmp_path: Path) -> None:
    name, all_ids, all_segments = write_panoptic(tmp_path / "data")
    check_datasets([name])
    evaluator = PanopticEvaluator(name, str(tmp_path))
    evaluator.reset()
    for index, record in enumerate(DatasetCatalog.get(name)):
        ids = np.roll(all_ids[index], index, axis=1)
        places = {s["id"]: n + 1 for n, s in enumerate(record["segments_info"])}
        guess = torch.zeros(ids.shape, dtype=torch.int32)
        infos = []
        for segment in record["segments_info"][: 4 - index]:
            guess[torch.from_numpy(ids == segment["id"])] = places[segment["id"]]
            infos.append(
                {"id": places[segment["id"]], "category_id": segment["category_id"], "isthing": 1}
            )
        evaluator.process([record], [{"panoptic_seg": (guess, infos)}])
    metrics = evaluator.evaluate()["panoptic_seg"]
    section = report_panoptic(get_cfg(), name, tmp_path, tmp_path, "panoptic_")
    for metric in ("PQ", "SQ", "RQ"):
        assert section.numbers[metric][0] == pytest.approx(metrics[metric], abs=1e-5)
    assert {"panoptic_confusion.csv", "panoptic_worst.jpg"} <= {p.name for p in tmp_path.iterdir()}
    assert len(all_segments) == 3


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_the_verb_finds_a_dataset_that_its_name_describes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    """As a command it runs without the training, which registers the dataset."""
    run, data = tmp_path / "run", tmp_path / "data"
    name = write_semantic(data) if task == "semantic" else write_panoptic(data)[0]
    tasks = [
        word
        for one in ("semantic", "panoptic", "instance")
        for word in (f"MODEL.MASK_FORMER.TEST.{one.upper()}_ON", one == task)
    ]
    metric = {"semantic": "sem_seg/mIoU", "panoptic": "panoptic_seg/PQ"}[task]
    keys = ["DATASETS.TRAIN", (name,), "DATASETS.TEST", (name,), "TEST.BEST_METRIC", metric]
    run.mkdir()
    write_cfg(run / "config.yaml", tiny_cfg("MaskFormer", 3, [*tasks, *keys]))
    rows = [{"iteration": 2, metric: 20.0}, {"iteration": 3, metric: 10.0}]
    (run / "metrics.json").write_text("\n".join(map(json.dumps, rows)))
    (run / "model_best.pth").touch()
    assert name not in DatasetCatalog.list()
    assert main(["report", str(run)]) == 2
    assert "does not exist: the run was not evaluated" in capsys.readouterr().err
    text = (run / "report" / "report.md").read_text()
    assert f"The best {metric}, 20.0, was after iteration 3: `model_best.pth`" in text
