"""Checkpoints are whole or not there, whenever a process is killed; and the best one is kept."""

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.engine import TrainerBase
from detectron2.engine.hooks import EvalHook, PeriodicCheckpointer
from torch import nn

from solo_family.engine.checkpointer import AtomicCheckpointer
from solo_family.engine.ema import EMA
from solo_family.engine.hooks import BestCheckpoint
from solo_family.engine.trainer import Trainer

from ..coco_folder import run_cfg, small_dataset


def save_for_ever(folder: str) -> None:
    torch.set_num_threads(1)  # OpenMP's threads do not outlive a fork
    model = nn.Linear(700, 700)
    checkpointer = AtomicCheckpointer(model, folder)
    checkpointer.ema = EMA(model, 0.5)
    for value in range(1_000_000):
        with torch.no_grad():
            for tensor in (*model.parameters(), *checkpointer.ema.average.values()):
                tensor.fill_(value)
        checkpointer.save("model")


def values_in(path: Path) -> set[float]:
    state = torch.load(path, weights_only=True)["model"]
    return {value for tensor in state.values() for value in tensor.unique().tolist()}


def test_a_process_killed_while_saving_leaves_whole_files(tmp_path: Path) -> None:
    rng = random.Random(0)
    found = []
    for attempt in range(12):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        # Forked, because starting Python a dozen times would take a minute.
        process = multiprocessing.get_context("fork").Process(
            target=save_for_ever, args=(str(folder),), daemon=True
        )
        process.start()
        deadline = time.monotonic() + 30
        while not (folder / "model_ema.pth").is_file() and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.06))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        found += [len(values_in(folder / name)) for name in ("model.pth", "model_ema.pth")]
        # What a resume reads first.
        assert (folder / "last_checkpoint").read_text() == "model.pth"
    assert found == [1] * 24


def test_an_error_while_saving_leaves_the_old_file(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    checkpointer = AtomicCheckpointer(model, str(tmp_path))
    checkpointer.save("model", iteration=1)
    with pytest.raises(Exception, match=r"lambda|pickle"):
        checkpointer.save("model", iteration=2, unpicklable=lambda: None)
    assert torch.load(tmp_path / "model.pth", weights_only=True)["iteration"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "model.pth"]


class ScriptedRun(TrainerBase):
    """Every step adds one to the weight; every second step is followed by an evaluation."""

    def __init__(self, folder: Path, metrics: list[float]) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)
        self.checkpointer = AtomicCheckpointer(self.model, str(folder), trainer=self)
        remaining = iter(metrics)
        self.register_hooks(
            [
                PeriodicCheckpointer(self.checkpointer, 2),
                EvalHook(2, lambda: {"segm": {"AP": next(remaining)}}),
                BestCheckpoint(2, self.checkpointer, "segm/AP"),
            ]
        )

    def run_step(self) -> None:
        with torch.no_grad():
            self.model.weight += 1


def weight_in(path: Path) -> float:
    return torch.load(path, weights_only=True)["model"]["weight"].item()


def test_the_best_checkpoint_is_that_of_the_best_metric(tmp_path: Path) -> None:
    ScriptedRun(tmp_path, [3.0, 7.0, 5.0, 6.0]).train(0, 8)
    assert weight_in(tmp_path / "model_best.pth") == 4
    # A resume goes on from the last, not from the best.
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert weight_in(tmp_path / "model_final.pth") == 8


def test_a_metric_that_is_not_a_number_is_never_best(tmp_path: Path) -> None:
    ScriptedRun(tmp_path, [float("nan"), 2.0, float("nan")]).train(0, 6)
    assert weight_in(tmp_path / "model_best.pth") == 4


def test_the_best_is_remembered_over_a_resume(tmp_path: Path) -> None:
    ScriptedRun(tmp_path, [3.0, 7.0, 5.0]).train(0, 6)
    for metric, iteration, best in ((6.0, 6, 4), (8.0, 8, 10)):
        run = resumed(tmp_path, [metric])
        assert run.iter + 1 == iteration
        run.train(iteration, iteration + 2)
        assert weight_in(tmp_path / "model_best.pth") == best


def resumed(folder: Path, metrics: list[float]) -> ScriptedRun:
    run = ScriptedRun(folder, metrics)
    run.checkpointer.resume_or_load("", resume=True)
    return run


def test_what_was_best_at_the_end_stays_so_in_a_longer_run(tmp_path: Path) -> None:
    ScriptedRun(tmp_path, [3.0, 7.0]).train(0, 4)
    for start, metric, best in ((4, 6.0, 4), (6, 8.0, 8), (8, 7.5, 8)):
        # The checkpoint that it goes on from was written before its evaluation.
        run = resumed(tmp_path, [metric])
        assert run.iter + 1 == start
        run.train(start, start + 2)
        assert weight_in(tmp_path / "model_best.pth") == best


def test_a_killed_run_knows_the_best_evaluation_after_its_last_checkpoint(tmp_path: Path) -> None:
    ScriptedRun(tmp_path, [3.0, 7.0, 5.0, 6.0]).train(0, 8)
    tmp_path.joinpath("last_checkpoint").write_text("model_0000003.pth")  # weights of 4 steps
    run = resumed(tmp_path, [5.0, 6.0])
    run.train(4, 8)
    assert weight_in(tmp_path / "model_best.pth") == 4
    # Where the run was killed later, the best one is of an iteration that is still to come.
    tmp_path.joinpath("last_checkpoint").write_text("model_0000001.pth")
    run = resumed(tmp_path, [2.0, 4.0, 1.0])
    run.train(2, 8)
    assert weight_in(tmp_path / "model_best.pth") == 6


def test_the_best_checkpoint_knows_how_good_it_is(tmp_path: Path) -> None:
    ScriptedRun(tmp_path, [3.0, 7.0]).train(0, 4)
    tmp_path.joinpath("last_checkpoint").write_text("model_best.pth")
    run = resumed(tmp_path, [6.0])
    assert run.iter + 1 == 4  # iterations, not one more, though it was measured at the end
    run.train(4, 6)
    assert weight_in(tmp_path / "model_best.pth") == 4


@pytest.mark.parametrize("content", [b"", b"PK damaged"])
def test_a_damaged_best_checkpoint_ends_no_run(tmp_path: Path, content: bytes) -> None:
    ScriptedRun(tmp_path, [3.0, 7.0]).train(0, 4)
    tmp_path.joinpath("model_best.pth").write_bytes(content)
    resumed(tmp_path, [6.0]).train(4, 6)
    assert weight_in(tmp_path / "model_best.pth") == 6


def test_best_metric_is_a_key_of_the_config(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data").name
    opts: list[Any] = ["TEST.BEST_METRIC", "segm/AP50", "TEST.EVAL_PERIOD", 1]
    cfg = run_cfg(dataset, tmp_path, *opts, "SOLVER.MAX_ITER", 2, test=dataset)
    Trainer(cfg).train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    metrics = {line["iteration"]: line["segm/AP50"] for line in lines if "segm/AP50" in line}
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert len(metrics) == 2
    assert metrics[best["iteration"]] == max(metrics.values())


def test_a_model_that_finds_nothing_has_metrics_of_masks_too(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data").name
    cfg = run_cfg(dataset, tmp_path, "MODEL.SOLOV2.SCORE_THR", 1.0, test=dataset)
    results = Trainer.test(cfg, Trainer.build_model(cfg))
    assert results["segm"]["AP"] == 0
