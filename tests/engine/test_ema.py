"""The averaged weights: against a loop over plain numbers, and beside the raw ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.engine import HookBase
from detectron2.utils.env import seed_all_rng
from torch import Tensor, nn

from solo_family.checkpoint.load import load_weights
from solo_family.engine.checkpointer import AtomicCheckpointer
from solo_family.engine.ema import EMA
from solo_family.engine.trainer import Trainer

from ..coco_folder import run_cfg, small_dataset

DECAY = 0.5


class Weights(HookBase):
    """Keeps the raw weights as they are before training and after every step, in float64."""

    trainer: Trainer

    def before_train(self) -> None:
        self.history = [self._copy()]

    def after_step(self) -> None:
        self.history.append(self._copy())

    def _copy(self) -> dict[str, Tensor]:
        state = self.trainer._trainer.model.state_dict()
        return {
            name: value.double() if value.is_floating_point() else value.clone()
            for name, value in state.items()
        }


def reference(history: list[dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
    average = dict(history[0])
    for step, weights in enumerate(history[1:], start=1):
        keep = min(decay, (1 + step) / (10 + step))
        for name, value in weights.items():
            if value.is_floating_point():
                average[name] = keep * average[name] + (1 - keep) * value
            else:
                average[name] = value
    return average


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished training with an average, of pretrained weights, evaluated at its end."""
    seed_all_rng(3)
    root = tmp_path_factory.mktemp("ema")
    dataset = small_dataset(root / "data").name
    first = run_cfg(dataset, root / "first", "SOLVER.MAX_ITER", 1)
    Path(first.OUTPUT_DIR).mkdir()
    Trainer(first).train()
    cfg = run_cfg(
        dataset,
        root / "run",
        *("SOLVER.EMA.ENABLED", True, "SOLVER.EMA.DECAY", DECAY, "SOLVER.MAX_ITER", 12),
        *("MODEL.WEIGHTS", str(root / "first" / "model_final.pth"), "SOLVER.BASE_LR", 0.01),
        # Whatever twelve steps have learnt on this processor, every candidate is a result.
        *("MODEL.SOLOV2.SCORE_THR", 0.0, "MODEL.SOLOV2.MASK_THR", 0.0),
        *("MODEL.SOLOV2.UPDATE_THR", 0.0, "MODEL.SOLOV2.AREA_FILTER", False),
        test=dataset,
    )
    Path(cfg.OUTPUT_DIR).mkdir()
    trainer = Trainer(cfg)
    weights = Weights()
    trainer.register_hooks([weights])
    trainer.resume_or_load(resume=False)
    trainer.train()
    return cfg, weights.history, trainer


def saved(cfg: Any, name: str) -> dict[str, Tensor]:
    return torch.load(Path(cfg.OUTPUT_DIR) / name, weights_only=True)["model"]


def test_the_average_is_that_of_a_plain_loop(run: Any) -> None:
    cfg, history, _ = run
    averaged = saved(cfg, "model_final_ema.pth")
    expected = reference(history, DECAY)
    assert list(averaged) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(averaged[name].double(), value.double(), atol=1e-6, rtol=1e-5)
    # The warm-up of the decay has ended: both of its branches were taken.
    last = (1 + 12) / (10 + 12)
    assert last > DECAY


def test_it_is_saved_beside_the_raw_weights(run: Any) -> None:
    cfg, history, _ = run
    raw, averaged = saved(cfg, "model_final.pth"), saved(cfg, "model_final_ema.pth")
    for name, value in history[-1].items():
        assert torch.equal(raw[name].double(), value.double())
    name = "head.kernel_predictor.weight"
    assert not torch.equal(raw[name], averaged[name])


def test_both_are_evaluated_and_the_raw_weights_are_back_afterwards(run: Any) -> None:
    cfg, history, trainer = run
    lines = (Path(cfg.OUTPUT_DIR) / "metrics.json").read_text().splitlines()
    last = json.loads(lines[-1])
    assert {"segm/AP", "segm_ema/AP"} <= set(last)
    for name, value in trainer._trainer.model.state_dict().items():
        assert torch.equal(value.double(), history[-1][name].double())
    for weights, folder in (
        ("model_final.pth", "inference"),
        ("model_final_ema.pth", "inference_ema"),
    ):
        model = Trainer.build_model(cfg)
        path = str(Path(cfg.OUTPUT_DIR) / weights)
        load_weights(AtomicCheckpointer(model), path, complete=True)
        again = Path(cfg.OUTPUT_DIR) / f"again_{folder}"
        name = cfg.DATASETS.TEST[0]
        Trainer.test(cfg, model, [Trainer.build_evaluator(cfg, name, str(again))])
        one, other = (
            (f / "coco_instances_results.json").read_text()
            for f in (again, Path(cfg.OUTPUT_DIR) / folder)
        )
        assert one == other
        assert json.loads(one)


def test_without_it_there_is_no_second_file(tmp_path: Path) -> None:
    cfg = run_cfg(small_dataset(tmp_path / "data").name, tmp_path, "SOLVER.MAX_ITER", 1)
    Trainer(cfg).train()
    assert [path.name for path in tmp_path.glob("*.pth")] == ["model_final.pth"]


def test_counters_and_frozen_weights_are_as_in_the_model() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[0].requires_grad_(False)
    ema = EMA(model, 0.9)
    with torch.no_grad():
        model[0].weight.fill_(3.25)  # weights are loaded after the hook was made
    ema.before_train()
    for _ in range(5):
        model(torch.randn(4, 2))
        ema.after_step()
    assert torch.equal(ema.average["0.weight"], model[0].weight)
    assert ema.average["1.num_batches_tracked"] == 5
