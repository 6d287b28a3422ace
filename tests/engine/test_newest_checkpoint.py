"""--resume loses nothing: it takes the newest whole checkpoint, and never begins anew over one."""

import logging
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from solo_family.checkpoint.load import load_weights
from solo_family.engine.checkpointer import AtomicCheckpointer
from solo_family.engine.ema import EMA
from solo_family.engine.main import main as train_net
from solo_family.engine.resume import newest_checkpoint, resume, set_aside
from solo_family.errors import DataError, TrainingError
from solo_family.report.curves import read_metrics
from solo_family.weight_files import read_weights

from ..coco_folder import run_cfg, small_dataset, write_cfg
from .test_resume import assert_equal


class Trainer:
    """What a checkpoint keeps of one."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"iteration": -1}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


def checkpointer(folder: Path) -> tuple[AtomicCheckpointer, Trainer]:
    trainer = Trainer()
    return AtomicCheckpointer(nn.Linear(40, 40), str(folder), trainer=trainer), trainer


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with checkpoints after iterations 1, 3 and 5, the last also as the final one."""
    saver, trainer = checkpointer(tmp_path)
    saver.ema = EMA(saver.model, 0.5)
    for iteration in (1, 3, 5):
        trainer.state = {"iteration": iteration, "hooks": {"EMA": saver.ema.state_dict()}}
        saver.save(f"model_{iteration:07d}", iteration=iteration)
    saver.save("model_final", iteration=5)
    return tmp_path


def resumed_at(folder: Path) -> int:
    loader, trainer = checkpointer(folder)
    assert resume(loader)
    return trainer.state["iteration"]


def flip_bytes(path: Path) -> None:
    """Changes bytes in the middle of a file, among the weights."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 256] = random.Random(0).randbytes(256)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "named", ["model_final_ema.pth", "model_0000007.pth", "", "\n", "..", b"\xff\xfe\0", None]
)
def test_whatever_last_checkpoint_says_the_newest_is_taken(run: Path, named: Any) -> None:
    (run / "last_checkpoint").unlink()
    if named is not None:
        content = named if isinstance(named, bytes) else named.encode()
        (run / "last_checkpoint").write_bytes(content)
    assert resumed_at(run) == 5


def test_an_earlier_one_is_taken_where_it_is_named(run: Path) -> None:
    (run / "last_checkpoint").write_text("model_0000001.pth\n")
    assert resumed_at(run) == 1


def test_times_of_files_do_not_count(run: Path) -> None:
    (run / "last_checkpoint").unlink()
    (run / "model_final.pth").unlink()
    os.utime(run / "model_0000001.pth", (4e9, 4e9))
    assert resumed_at(run) == 5


@pytest.mark.parametrize("damage", ["flip", "half", "empty", "weights alone", "ema"])
def test_a_damaged_one_is_left_out_by_name(
    run: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    newest = [run / "model_final.pth", run / "model_0000005.pth"]
    for path in newest:
        data = path.read_bytes()
        if damage == "flip":
            flip_bytes(path)
        elif damage in ("half", "empty"):
            path.write_bytes(data[: len(data) // 2] if damage == "half" else b"")
        else:
            content = torch.load(path, weights_only=True)
            if damage == "ema":
                average = content["trainer"]["hooks"]["EMA"]["average"]
                average["bias"][3] = float("nan")
            torch.save(content if damage == "ema" else {"model": content["model"]}, path)
    with caplog.at_level(logging.INFO):
        assert resumed_at(run) == 3
    for path in newest:
        (line,) = [line for line in caplog.messages if f"skips a checkpoint: {path}" in line]
        assert "\n" not in line
    assert any(
        f"goes on from {run}/model_0000003.pth, after iteration 4" in m for m in caplog.messages
    )


def test_damaged_weights_are_refused_wherever_they_are_read(run: Path) -> None:
    path = run / "model_0000005_ema.pth"
    flip_bytes(path)
    loader, _ = checkpointer(run)
    with pytest.raises(
        DataError, match=r"MODEL.WEIGHTS .* the checksum of its part .*data/\d is wrong"
    ):
        load_weights(loader, str(path), complete=True)
    with pytest.raises(DataError, match=r"the checksum of its part .*data/\d is wrong"):
        read_weights(path)


def test_where_none_is_whole_it_stops(run: Path) -> None:
    for path in run.glob("*.pth"):
        path.write_bytes(b"torn")
    with pytest.raises(DataError, match=r"none of its checkpoints is intact .* without --resume"):
        newest_checkpoint(str(run))
    for path in run.glob("*.pth"):
        path.unlink()
    with pytest.raises(
        DataError, match=r"last_checkpoint names .*/model_final.pth, which does not exist"
    ):
        newest_checkpoint(str(run))
    (run / "last_checkpoint").unlink()
    assert newest_checkpoint(str(run)) is None


def test_weights_that_are_not_finite_are_not_written(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.iterdir()}
    for spoil_average in (True, False):
        saver, _ = checkpointer(run)
        saver.ema = EMA(saver.model, 0.5)
        weights = saver.ema.average if spoil_average else saver.model.state_dict()
        weights["weight"][2, 2] = float("inf")
        kind = "averaged weights" if spoil_average else "weights"
        with pytest.raises(TrainingError, match=rf"1 {kind} are not finite, the first is weight"):
            saver.save("model_0000007", iteration=7)
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_earlier_runs_are_moved_aside_one_after_the_other(run: Path) -> None:
    names = sorted(path.name for path in run.iterdir())
    (run / "log.txt").write_text("stays")
    set_aside(str(run))
    assert [path.name for path in run.iterdir() if path.is_file()] == ["log.txt"]
    assert sorted(path.name for path in (run / "previous-1").iterdir()) == names
    set_aside(str(run))
    assert not (run / "previous-2").exists()
    (run / "model_0000001.pth").write_text("another")
    set_aside(str(run))
    assert (run / "previous-2" / "model_0000001.pth").read_text() == "another"


def test_a_run_without_resume_moves_them_also_where_it_starts_from_one(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data").name
    output = tmp_path / "run"
    cfg = run_cfg(dataset, output, "SOLVER.MAX_ITER", 1)
    words = ["--config-file", str(write_cfg(tmp_path / "config.yaml", cfg))]
    assert train_net(words) == 0
    first = (output / "model_final.pth").read_bytes()
    assert train_net([*words, "MODEL.WEIGHTS", str(output / "model_final.pth")]) == 0
    assert (output / "previous-1" / "model_final.pth").read_bytes() == first
    assert (output / "model_final.pth").read_bytes() != first


@pytest.mark.slow
def test_metrics_of_an_earlier_run_are_not_those_of_a_new_one(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data").name
    output = tmp_path / "run"
    cfg = run_cfg(dataset, output, "OUTPUT.LOGGERS", ("csv",), test=dataset)
    words = ["--config-file", str(write_cfg(tmp_path / "config.yaml", cfg))]
    files = [output / "metrics.json", output / "metrics.csv"]
    assert train_net([*words, "TEST.EVAL_PERIOD", "1"]) == 0
    earlier = [path.read_text() for path in files]
    assert read_metrics(files[0], 3)["segm/AP"][0] == [1, 2, 3]
    assert train_net([*words, "SOLVER.MAX_ITER", "2"]) == 0
    assert read_metrics(files[0], 2)["segm/AP"][0] == [2]
    assert files[1].read_text().count("segm/AP,") == 1
    assert [(output / "previous-1" / path.name).read_text() for path in files] == earlier
    # One that goes on keeps them.
    assert train_net([*words, "--resume"]) == 0
    assert read_metrics(files[0], 3)["total_loss"][0] == [2, 3]
    assert not (output / "previous-2").exists()


@pytest.mark.slow
def test_the_final_checkpoint_is_written_though_the_run_was_killed_before_it(
    tmp_path: Path,
) -> None:
    dataset = small_dataset(tmp_path / "data").name
    cfg = run_cfg(dataset, tmp_path / "run", *("SOLVER.MAX_ITER", 2, "SOLVER.CHECKPOINT_PERIOD", 1))
    words = ["--config-file", str(write_cfg(tmp_path / "config.yaml", cfg))]
    assert train_net(words) == 0
    final = tmp_path / "run" / "model_final.pth"
    expected = torch.load(final, weights_only=True)
    final.unlink()
    (tmp_path / "run" / "last_checkpoint").write_text("model_0000001.pth")
    assert train_net([*words, "--resume"]) == 0
    assert_equal(torch.load(final, weights_only=True), expected)
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_final.pth"
