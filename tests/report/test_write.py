"""The report of a run's folder: what it has, what it keeps, what it says of what is missing."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from detectron2.config import CfgNode
from pycocotools import mask as mask_util

from solo_family.__main__ import main
from solo_family.config import get_cfg, setup_cfg
from solo_family.config.output import confidence_threshold
from solo_family.data.formats.coco_json import dataset_truth
from solo_family.data.formats.register import check_datasets
from solo_family.engine.arguments import argument_parser
from solo_family.engine.main import read_config
from solo_family.errors import SoloFamilyError
from solo_family.ops.rle import encode_masks
from solo_family.report.matrix_picture import draw_matrix
from solo_family.report.stored_threshold import store_threshold
from solo_family.report.write import write_report

from ..coco_folder import CocoFolder, noise, rectangle, run_cfg, write_cfg
from ..conftest import tiny_cfg


@pytest.fixture
def run(tmp_path: Path) -> tuple[CfgNode, Path]:
    """A run without a model: its configuration, its metrics, and predictions by hand."""
    # "$\\" begins a formula that matplotlib can't read.
    folder = CocoFolder(tmp_path / "data", {1: "cat", 2: "a|dog$\\$"})
    for index in range(4):
        boxes = [rectangle(5, 5, 20, 20), rectangle(30, 10, 20, 20, category_id=2)]
        folder.add(f"ü $\\{index}$.png", noise(48, 64, seed=index), boxes)
    name, output = folder.write(), tmp_path / "run"
    cfg = run_cfg(name, output, test=name)
    (output / "inference").mkdir(parents=True)
    write_cfg(output / "config.yaml", cfg)
    rows = [{"iteration": 2, "total_loss": 2.0}, {"iteration": 3, "segm/AP": 50.0}]
    (output / "metrics.json").write_text("\n".join(map(json.dumps, rows)))
    check_datasets([name])
    truth = dataset_truth(name)

    def dense_mask(one: dict[str, Any]) -> np.ndarray:
        return mask_util.decode(one["segmentation"])[None].astype(bool)

    results = [
        {
            "image_id": one["image_id"],
            # Every other one has the wrong class, and a lower score.
            "category_id": 1,
            "score": 0.8 if one["category_id"] == 1 else 0.4,
            "segmentation": encode_masks(torch.from_numpy(dense_mask(one)))[0],
        }
        for one in truth.dataset["annotations"]
    ]
    (output / "inference/coco_instances_results.json").write_text(json.dumps(results))
    return cfg, output


def test_the_report_of_instances(run: tuple[CfgNode, Path]) -> None:
    cfg, output = run
    cfg.TEST.PROPOSAL_RECALL = True
    recall = {"iou_thresholds": [0.5, 0.55], "recall": {"10": [0.5, 0.0], "100": [1.0, 0.5]}}
    (output / "inference/proposal_recall.json").write_text(json.dumps(recall))
    text = write_report(cfg, output).read_text()
    assert "**AP 50.0 (50.0 to 50.0)" in text
    assert "4 images are few" in text
    assert "| a\\|dog$\\$ | 4 | 4 | 0.0 (0.0 to 0.0) | 0.0 | - | 0.0 | 0.0 |" in text
    for link in ("curves.png", "pr.png", "confusion.png", "worst.jpg", "classes.csv"):
        assert f"({link})" in text
        assert (output / "report" / link).stat().st_size
    numbers = json.loads((output / "report/report.json").read_text())
    assert numbers["confidence_threshold"] == 0.6  # half-way between the right and the wrong ones
    assert numbers["AP"] == [50.0, 50.0, 50.0]
    assert numbers["proposals"] == {"AR@10": 25.0, "AR@100": 75.0}
    stored = setup_cfg(str(output / "config.yaml"), ["MODEL.DEVICE", "cpu"])
    assert stored.TEST.BEST_CONFIDENCE == 0.6
    confusion = (output / "report/confusion.csv").read_text().splitlines()
    assert confusion[1:] == ["cat,4,0,0", "a|dog$\\$,0,0,4", "no object,0,0,0"]


@pytest.mark.slow
def test_better_weights_than_the_reported_are_named(run: tuple[CfgNode, Path]) -> None:
    cfg, output = run
    assert "`model_final.pth`" in write_report(cfg, output).read_text()
    cfg.SOLVER.EMA.ENABLED = True
    cfg.TEST.BEST_METRIC = "segm/AP"
    (output / "model_best.pth").touch()
    rows = [
        {"iteration": 1, "segm/AP": 60.0, "segm_ema/AP": 40.0},
        {"iteration": 3, "segm/AP": 50.0, "segm_ema/AP": 70.0},
    ]
    (output / "metrics.json").write_text("\n".join(map(json.dumps, rows)))
    text = write_report(cfg, output).read_text()
    assert "`model_final_ema.pth`, has segm/AP 70.0; they themselves have 50.0." in text
    assert "The best segm/AP, 60.0, was after iteration 2: `model_best.pth`." in text


def test_the_best_threshold_is_kept_for_pictures(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(tiny_cfg().dump())
    before = yaml.safe_load(path.read_text())
    assert "show what has at least this score" in store_threshold(path, 0.6)
    after = yaml.safe_load(path.read_text())
    assert after["TEST"].pop("BEST_CONFIDENCE") == 0.6
    assert before["TEST"].pop("BEST_CONFIDENCE") is None
    assert after == before

    def used(*opts: str) -> float:
        return confidence_threshold(setup_cfg(str(path), ["MODEL.DEVICE", "cpu", *opts]))

    assert used() == 0.6
    assert used("TEST.CONFIDENCE_THRESHOLD", "0.11") == 0.11
    assert confidence_threshold(get_cfg()) == 0.5
    store_threshold(path, 0.65)
    assert used() == 0.65
    path.write_text(
        path.read_text().replace("CONFIDENCE_THRESHOLD: null", "CONFIDENCE_THRESHOLD: 0.2")
    )
    assert "0.2, which was given, comes before it" in store_threshold(path, 0.65)
    assert used() == 0.2
    assert store_threshold(tmp_path / "none.yaml", 0.5) == ""
    # A new training from this file has no best threshold yet.
    words = ["--config-file", str(path), "DATASETS.TRAIN", "()"]
    assert read_config(argument_parser().parse_args(words)).TEST.BEST_CONFIDENCE is None


def test_what_is_missing_is_said(
    run: tuple[CfgNode, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    cfg, output = run
    (output / "report").mkdir()
    (output / "report/panoptic_worst.jpg").touch()  # of an earlier report
    (output / "inference/coco_instances_results.json").unlink()
    with pytest.raises(SoloFamilyError, match=r"--eval-only MODEL\.WEIGHTS"):
        write_report(cfg, output)
    # The pictures of the last report are gone with its figures.
    assert sorted(path.name for path in (output / "report").iterdir()) == [
        *("curves.png", "report.json", "report.md")
    ]
    cfg.DATASETS.TEST = ()
    assert "there are curves only" in write_report(cfg, output).read_text()
    assert main(["report", str(output / "inference")]) == 2
    assert "has no config.yaml" in capsys.readouterr().err
    assert main(["report", str(output), "--confidence-threshold", "7"]) == 2
    shutil.rmtree(output / "report")
    (output / "report").touch()  # as where nothing may be written
    assert main(["report", str(output)]) == 2
    assert f"The report of {output} can't be written" in capsys.readouterr().err


def test_without_objects_there_is_no_ap(run: tuple[CfgNode, Path]) -> None:
    cfg, output = run
    path = output.parent / "data/instances.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # matplotlib's, of a legend of nothing
        text = write_report(cfg, output).read_text()
    assert "have no objects, so that there is no AP" in text
    assert "bootstrap" not in text


@pytest.mark.slow
def test_a_picture_of_as_many_classes_as_there_is_room_for_is_whole(tmp_path: Path) -> None:
    for count, is_whole in ((30, True), (31, False)):
        matrix, names = np.eye(count, dtype=np.int64), [f"_{place}" for place in range(count)]
        assert draw_matrix(tmp_path / "m.png", matrix, names, names, "objects") == is_whole


def test_nothing_predicted_and_pictures_that_are_gone(run: tuple[CfgNode, Path]) -> None:
    _, output = run
    (output / "inference/coco_instances_results.json").write_text("[]")
    for number, path in enumerate(sorted((output.parent / "data/images").iterdir())):
        path.write_text("broken")
        assert number < 4
    assert main(["report", str(output), "--confidence-threshold", "0.2"]) == 0
    text = (output / "report/report.md").read_text()
    assert "No object was found" in text
    assert "**AP 0.0" in text
    assert text.count("Not drawn: ") == 4
