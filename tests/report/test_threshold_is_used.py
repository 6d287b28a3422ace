"""The threshold that a report has stored is used where results are shown, and nowhere else."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata
from detectron2.structures import Instances

from solo_family import Predictor
from solo_family.cli import demo, visualize_results
from solo_family.data.loading.images import Reading
from solo_family.predictor import predictor as predictors
from solo_family.predictor.sources import Source, from_config

from ..coco_folder import noise, write_cfg
from ..conftest import tiny_cfg


def source(threshold: float) -> Source:
    """A model that finds three objects, with scores of 0.2, 0.4 and 0.6."""

    def predict(images: list[np.ndarray]) -> list[dict[str, Any]]:
        instances = Instances(images[0].shape[:2])
        instances.pred_masks = torch.ones(3, *images[0].shape[:2], dtype=torch.bool)
        instances.scores = torch.tensor([0.6, 0.4, 0.2])
        instances.pred_classes = torch.zeros(3, dtype=torch.int64)
        return [{"instances": instances} for _ in images]

    return Source(predict, Metadata(thing_classes=["a"]), Reading(), threshold=threshold)


def test_a_config_gives_it_to_its_model() -> None:
    assert from_config(tiny_cfg()).threshold == 0.5
    assert from_config(tiny_cfg(opts=["TEST.BEST_CONFIDENCE", 0.3])).threshold == 0.3


@pytest.mark.parametrize(("given", "found"), [(None, 2), (0.1, 3)])
def test_predictor(monkeypatch: pytest.MonkeyPatch, given: float | None, found: int) -> None:
    monkeypatch.setattr(predictors, "open_source", lambda *_: source(0.3))
    predict = Predictor("run", confidence_threshold=given)
    assert len(predict(noise(20, 30)).scores) == found


@pytest.mark.parametrize(("flags", "lines"), [((), 3), (("--confidence-threshold", "0.5"), 2)])
def test_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], lines: int
) -> None:
    monkeypatch.setattr(demo, "_open_model", lambda *_: (source(0.3), "key"))
    noise(20, 30).save(tmp_path / "a.png")
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    words = ["--config-file", "c.yaml", "--input", str(tmp_path / "a.png"), *flags]
    words += ["--output", str(tmp_path / "out"), "--save", "csv"]
    assert demo.run(parser.parse_args(words)) == 0
    (table,) = (tmp_path / "out").rglob("*.csv")
    assert len(table.read_text().splitlines()) == lines  # with a line of heads


def test_pictures_beside_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []

    def draw(cfg: CfgNode, output: Path, threshold: float, most: int | None) -> tuple[int, int]:
        used.append(threshold)
        return 0, 0

    monkeypatch.setattr(visualize_results, "draw_beside_truth", draw)
    parser = argparse.ArgumentParser()
    visualize_results.add_arguments(parser)
    cfg = tiny_cfg(opts=["TEST.CONFIDENCE_THRESHOLD", 0.3])
    words = ["--ground-truth", "--config-file", str(write_cfg(tmp_path / "c.yaml", cfg))]
    visualize_results.run(parser.parse_args(words))
    visualize_results.run(parser.parse_args([*words, "--confidence-threshold", "0.7"]))
    assert used == [0.3, 0.7]
