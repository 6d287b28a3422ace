"""A run that is killed and resumed is the run that was never stopped."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.engine.hooks import CallbackHook
from detectron2.modeling import build_model
from detectron2.utils.env import seed_all_rng

from solo_family.engine.checkpointer import AtomicCheckpointer
from solo_family.engine.resume import resume
from solo_family.engine.trainer import Trainer
from solo_family.errors import DataError

from ..coco_folder import run_cfg, small_dataset, write_cfg
from ..conftest import ROOT, tiny_cfg, tiny_model
from ..forked import Forked

HALF, WHOLE = 4, 8


class Recorder(HookBase):
    """Keeps every iteration's losses, learning rate and images."""

    trainer: Trainer

    def __init__(self) -> None:
        self.iterations: dict[int, dict[str, Any]] = {}

    def after_step(self) -> None:
        scalars = {
            name: value
            for name, (value, iteration) in self.trainer.storage.latest().items()
            if iteration == self.trainer.iter and ("loss" in name or name == "lr")
        }
        files = [item["file_name"] for item in self.trainer._trainer.last_batch]
        self.iterations[self.trainer.iter] = scalars | {"files": files}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums are rounded alike here and in the other process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train_here(cfg: CfgNode, *, resume: bool = False) -> dict[int, dict[str, Any]]:
    seed_all_rng(cfg.SEED)
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    trainer = Trainer(cfg)
    recorder = Recorder()
    trainer.register_hooks([recorder])
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return recorder.iterations


def train_until_killed(cfg: CfgNode, folder: Path) -> None:
    """Trains in another process, which is killed two iterations after its first checkpoint."""

    def kill(trainer: Any) -> None:
        if trainer.iter == HALF + 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def train(_: list[str]) -> int:
        seed_all_rng(cfg.SEED)
        os.makedirs(cfg.OUTPUT_DIR)
        trainer = Trainer(cfg)
        trainer.register_hooks([CallbackHook(after_step=kill)])
        trainer.resume_or_load(resume=False)
        trainer.train()
        return 0

    with Forked(train, [], folder) as run:
        assert run.status() == -signal.SIGKILL, run.printed


def checkpoint(cfg: CfgNode, name: str = "model_final.pth") -> dict[str, Any]:
    return torch.load(Path(cfg.OUTPUT_DIR) / name, weights_only=True)


def assert_equal(one: Any, other: Any, where: str = "") -> None:
    """Compares nested states to the last bit."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other)):
            assert_equal(*pair, f"{where}[{index}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


FLOAT16 = ["SOLVER.AMP.ENABLED", True, "SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"]
EMA = ["SOLVER.EMA.ENABLED", True, "SOLVER.EMA.DECAY", 0.9]
WORKERS = ["DATALOADER.NUM_WORKERS", 2, "DATALOADER.ASPECT_RATIO_GROUPING", True]
PLAIN = ["SOLVER.MOMENTUM", 0.8, "DATALOADER.ASPECT_RATIO_GROUPING", False]
ADAMW = ["SOLVER.OPTIMIZER", "AdamW", "SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR"]


@pytest.mark.parametrize(
    "opts",
    [
        pytest.param([*FLOAT16, *EMA], id="float16-ema-grouped"),
        pytest.param([*WORKERS, *ADAMW, *EMA], id="workers-adamw-poly", marks=pytest.mark.slow),
        pytest.param([*PLAIN, "SOLVER.STEPS", (3, 6)], id="plain-steps", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_as_if_it_never_stopped(tmp_path: Path, opts: list[Any]) -> None:
    dataset = small_dataset(tmp_path / "data", images=7).name
    opts = [*opts, "SOLVER.MAX_ITER", WHOLE, "SOLVER.CHECKPOINT_PERIOD", HALF]
    whole = run_cfg(dataset, tmp_path / "whole", *opts)
    uninterrupted = train_here(whole)
    assert list(uninterrupted) == list(range(WHOLE))
    stopped = run_cfg(dataset, tmp_path / "stopped", *opts)
    train_until_killed(stopped, tmp_path)
    assert (tmp_path / "stopped" / "last_checkpoint").read_text() == "model_0000003.pth"
    resumed = train_here(stopped, resume=True)
    assert list(resumed) == list(range(HALF, WHOLE))
    for iteration, values in resumed.items():
        assert values == uninterrupted[iteration]
    assert_equal(checkpoint(stopped), checkpoint(whole))
    state = checkpoint(whole)["trainer"]
    assert state["iteration"] == WHOLE - 1
    assert state["_trainer"]["optimizer"]["state"]  # it has stepped: there is momentum
    scaler = state["_trainer"]["grad_scaler"]
    assert not scaler or scaler["scale"] != 65536.0  # and there is something in the scaler


@pytest.mark.slow
def test_train_net_killed_at_any_time_goes_on_with_resume(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data").name
    opts = ["SOLVER.MAX_ITER", 60, "SOLVER.CHECKPOINT_PERIOD", 1, *EMA]
    config = write_cfg(tmp_path / "config.yaml", run_cfg(dataset, tmp_path / "run", *opts))
    command = [sys.executable, str(ROOT / "train_net.py"), "--config-file", str(config), "--resume"]
    last, log = tmp_path / "run" / "last_checkpoint", tmp_path / "run" / "log.txt"
    for delay in (0.0, 0.3):
        before = last.read_text() if last.is_file() else ""
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 120
            while not last.is_file() or last.read_text() == before:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.002)
            time.sleep(delay)
            process.kill()
        assert process.returncode == -signal.SIGKILL
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    starts = re.findall(r"Starting training from iteration (\d+)", log.read_text())
    assert len(starts) == 3
    assert 0 == int(starts[0]) < int(starts[1]) < int(starts[2])
    assert last.read_text() == "model_final.pth"


def test_batches_of_one_orientation_in_the_order_of_the_uninterrupted_run(tmp_path: Path) -> None:
    """The place is kept in batches, whose images are not the stream's."""
    dataset = small_dataset(tmp_path / "data", images=7).name
    whole = train_here(run_cfg(dataset, tmp_path / "whole", "SOLVER.MAX_ITER", WHOLE))
    orientations = [{int(Path(file).stem) % 2 for file in i["files"]} for i in whole.values()]
    assert all(len(batch) == 1 for batch in orientations)
    assert {0} in orientations
    assert {1} in orientations
    files = [file for iteration in whole.values() for file in iteration["files"]]
    assert len(set(files)) == 7


def write_checkpoint(cfg: CfgNode, content: bytes) -> None:
    output = Path(cfg.OUTPUT_DIR)
    (output / "model_0000001.pth").write_bytes(content)
    (output / "last_checkpoint").write_text("model_0000001.pth")


def test_a_resume_from_a_foreign_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    """It is whole, so that an older one would be another run."""
    dataset = small_dataset(tmp_path / "data").name
    cfg = run_cfg(dataset, tmp_path / "run", "SOLVER.MAX_ITER", 1)
    train_here(cfg)
    whole = (tmp_path / "run" / "model_final.pth").read_bytes()
    words = ["--resume can't go on from", "model_0000001.pth", "OUTPUT_DIR"]
    other = run_cfg(dataset, tmp_path / "run", "MODEL.FPN.OUT_CHANNELS", 8)
    other_parameters = run_cfg(dataset, tmp_path / "run", "MODEL.BACKBONE.FREEZE_AT", 2)
    for config in (other, other_parameters):
        write_checkpoint(config, whole)
        with pytest.raises(DataError) as error:
            Trainer(config).resume_or_load(resume=True)
        assert all(word in str(error.value) for word in words)
        assert "\n" not in str(error.value)


def remember_more(state: dict[str, Any]) -> None:
    state["head.of_another"] = torch.zeros(3)


@pytest.mark.parametrize(
    ("method", "classes", "more", "mismatch"),
    [
        (
            *("SOLOv2", 5, False),
            r"\S+ is \(2, \d+, 3, 3\) in the file, and \(5, \d+, 3, 3\) in the model\. ",
        ),
        ("SparseInst", 2, False, r"it lacks backbone\.\S+\. "),
        ("SOLOv2", 2, True, r"it holds head\.of_another, which the model has not\. "),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_with_the_first_mismatch(
    tmp_path: Path, method: str, classes: int, more: bool, mismatch: str
) -> None:
    state = tiny_model(num_classes=2).state_dict()
    if more:
        state["head.of_another"] = torch.zeros(3)
    path = tmp_path / "model_0000001.pth"
    torch.save({"model": state, "trainer": {"iteration": 1}, "iteration": 1}, path)
    before = path.read_bytes()
    model = build_model(tiny_cfg(method, classes))
    checkpointer = AtomicCheckpointer(model, str(tmp_path))
    with pytest.raises(
        DataError, match=rf"^--resume can't go on from {path}.*: {mismatch}"
    ) as error:
        resume(checkpointer)
    assert "number of classes" in str(error.value)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before


def test_with_an_older_detectron2_the_optimizer_is_kept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with version 0.6, whose `DefaultTrainer` has neither of the two methods."""
    for name in {"state_dict", "load_state_dict"} & set(vars(DefaultTrainer)):
        monkeypatch.delattr(DefaultTrainer, name)
    name = small_dataset(tmp_path / "data").name
    trainer, again = (
        Trainer(run_cfg(name, tmp_path, "SOLVER.MAX_ITER", count)) for count in (1, 2)
    )
    trainer.train()
    state = trainer.state_dict()
    again.load_state_dict(state)
    momentum = state["_trainer"]["optimizer"]["state"]
    assert momentum
    assert_equal(again.state_dict()["_trainer"]["optimizer"]["state"], momentum)
