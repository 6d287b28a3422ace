"""Training ends when evaluations no longer improve, and a resumed run goes on counting."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode

from solo_family.config import check_config
from solo_family.engine.resume import newest_checkpoint
from solo_family.engine.trainer import Trainer
from solo_family.errors import ConfigError

from ..coco_folder import run_cfg, small_dataset


class Scripted(Trainer):
    """A trainer whose evaluations give metrics one after another, and that one can interrupt."""

    metrics: Iterator[float]
    fails_at = -1

    def evaluate(self) -> dict[str, dict[str, float]]:
        self._last_eval_results = {"segm": {"AP": next(self.metrics)}}
        return self._last_eval_results

    def after_step(self) -> None:
        super().after_step()
        if self.iter == self.fails_at:
            raise KeyboardInterrupt


def cfg_of(root: Path, *opts: Any) -> CfgNode:
    dataset = (root / "data" / "instances.json").exists()
    folder = root / "data"
    name = f"coco_json:{folder}/instances.json:{folder}/images"
    if not dataset:
        name = small_dataset(folder).name
    keys = ["TEST.BEST_METRIC", "segm/AP", "TEST.EVAL_PERIOD", 1, "SOLVER.MAX_ITER", 6]
    cfg = run_cfg(name, root / "run", *keys, "SOLVER.BASE_LR", 0.0, *opts, test=name)
    check_config(cfg)
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    return cfg


def run(cfg: CfgNode, metrics: list[float], resume: bool = False, fails_at: int = -1) -> Scripted:
    trainer = Scripted(cfg)
    trainer.metrics, trainer.fails_at = iter(metrics), fails_at
    trainer.resume_or_load(resume)
    assert trainer.train() in (None, trainer.last_results)
    return trainer


def final(cfg: CfgNode) -> int:
    path = Path(cfg.OUTPUT_DIR) / "model_final.pth"
    assert newest_checkpoint(cfg.OUTPUT_DIR) == path
    return torch.load(path, weights_only=False)["iteration"]


def test_it_ends_after_two_that_are_not_better(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = cfg_of(tmp_path, "TEST.EARLY_STOP_PATIENCE", 2)
    metrics = [5.0, 4.0, 6.0, 6.0, float("nan"), 9.0]
    with caplog.at_level(logging.INFO):
        trainer = run(cfg, metrics)
    assert final(cfg) == 4  # the fifth iteration; the sixth metric would have been better
    assert next(trainer.metrics) == 9.0
    said = "in 2 evaluations segm/AP was not better than 6, at iteration 3"
    assert said in caplog.text
    assert "Exception during training" not in caplog.text
    best = torch.load(Path(cfg.OUTPUT_DIR) / "model_best.pth", weights_only=False)
    assert best["iteration"] == 2
    # It stays so, until the patience is raised.
    again = run(cfg, [], resume=True)
    assert again.iter == 4
    assert final(cfg) == 4
    cfg.TEST.EARLY_STOP_PATIENCE = 3
    run(cfg, [1.0], resume=True)  # the last iteration's, which ends nothing
    assert final(cfg) == 5


@pytest.mark.parametrize("checkpoint_period", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_run_goes_on_counting(tmp_path: Path, checkpoint_period: int) -> None:
    opts = ["TEST.EARLY_STOP_PATIENCE", 3, "SOLVER.CHECKPOINT_PERIOD", checkpoint_period]
    cfg = cfg_of(tmp_path, *opts)
    metrics = [5.0, 7.0, 6.0, 6.0, 6.0, 9.0]
    with pytest.raises(KeyboardInterrupt):
        run(cfg, metrics, fails_at=3)
    # The checkpoint of iteration 3 has its evaluation, too.
    run(cfg, metrics[4:], resume=True)
    assert final(cfg) == 4


@pytest.mark.parametrize(
    "opts",
    [
        ["TEST.EARLY_STOP_PATIENCE", -1],
        ["TEST.EARLY_STOP_PATIENCE", 2, "TEST.BEST_METRIC", ""],
        ["TEST.EARLY_STOP_PATIENCE", 2, "TEST.EVAL_PERIOD", 0],
    ],
)
def test_values_that_can_not_be(tmp_path: Path, opts: list[Any]) -> None:
    with pytest.raises(ConfigError, match=r"TEST\.EARLY_STOP_PATIENCE is"):
        cfg_of(tmp_path, *opts)
