"""OUTPUT.LOGGERS: files and runs, also those that a resumed training goes on in."""

import csv
import importlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.utils.events import EventStorage, EventWriter, TensorboardXWriter

from solo_family.config import check_config
from solo_family.engine.loggers import Logger, PicturesForgotten, build_loggers, open_loggers
from solo_family.engine.trainer import Trainer
from solo_family.errors import ConfigError

from ..coco_folder import run_cfg, small_dataset
from ..conftest import tiny_cfg


def logger_of(name: str, folder: Path) -> Logger:
    first = build_loggers([name], str(folder))[0]
    assert isinstance(first, Logger)
    return first


def log(folder: Path, name: str, values: dict[int, float], resumed: bool) -> None:
    """Writes a loss of each iteration, and a metric with letters of all kinds."""
    logger = logger_of(name, folder)
    logger.open(resumed)
    for iteration, value in values.items():
        with EventStorage(iteration) as storage:
            storage.put_scalar("total_loss", value)
            storage.put_scalar("segm/AP-a&b", float("nan"), smoothing_hint=False)
            storage.put_image("picture", np.zeros((3, 4, 5), np.uint8))
            logger.write()
    logger.close()


def test_csv_has_a_line_for_each_metric_and_goes_on(tmp_path: Path) -> None:
    log(tmp_path, "csv", {19: 2.0, 39: 1.5}, resumed=False)
    path = tmp_path / "metrics.csv"
    path.write_text(path.read_text() + "59,total_lo")  # a process was killed
    log(tmp_path, "csv", {59: 1.0}, resumed=True)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = {int(r["iteration"]): float(r["value"]) for r in rows if r["metric"] == "total_loss"}
    assert losses == {19: 2.0, 39: 1.5, 59: 1.0}
    assert [r["value"] for r in rows if r["metric"] == "segm/AP-a&b"] == ["nan"] * 3


def test_mlflow_goes_on_in_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    log(tmp_path, "mlflow", {19: 2.0, 39: 1.5}, resumed=False)
    first = (tmp_path / "mlflow_run.txt").read_text().strip()
    log(tmp_path, "mlflow", {59: 1.0}, resumed=True)
    assert (tmp_path / "mlflow_run.txt").read_text().strip() == first
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    history = client.get_metric_history(first, "total_loss")
    assert {one.step: one.value for one in history} == {19: 2.0, 39: 1.5, 59: 1.0}
    run = client.get_run(first)
    assert run.info.status == "FINISHED"
    assert "segm/AP-a_b" in run.data.metrics
    log(tmp_path, "mlflow", {19: 3.0}, resumed=False)  # another training in this folder
    assert (tmp_path / "mlflow_run.txt").read_text().strip() != first


@pytest.mark.slow  # it starts a process of its own
def test_wandb_offline_goes_on_in_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    log(tmp_path, "wandb", {19: 2.0}, resumed=False)
    first = (tmp_path / "wandb_run.txt").read_text().strip()
    log(tmp_path, "wandb", {39: 1.5}, resumed=True)
    assert (tmp_path / "wandb_run.txt").read_text().strip() == first
    files = list((tmp_path / "wandb").glob(f"offline-run-*-{first}/run-{first}.wandb"))
    assert len(files) == 2  # wandb sync uploads both to one run
    content = b"".join(file.read_bytes() for file in files)
    assert b"total_loss" in content


def test_tensorboard_is_the_default_and_takes_the_pictures(tmp_path: Path) -> None:
    assert tiny_cfg().OUTPUT.LOGGERS == ("tensorboard",)
    assert [type(w) for w in build_loggers(["tensorboard"], str(tmp_path))] == [TensorboardXWriter]
    writers = build_loggers(["csv"], str(tmp_path))
    open_writers(writers)
    with EventStorage(0) as storage:
        storage.put_image("picture", np.zeros((3, 4, 5), np.uint8))
        for writer in writers:
            writer.write()
        assert storage._vis_data == []
    assert isinstance(writers[-1], PicturesForgotten)
    assert build_loggers([], str(tmp_path))[0].__class__ is PicturesForgotten


def open_writers(writers: list[EventWriter]) -> None:
    for writer in writers:
        if isinstance(writer, Logger):
            writer.open(resumed=False)


@pytest.mark.parametrize("given", [("tensorbord",), ("csv", "csv"), "csv"])
def test_unknown_names_are_refused_with_the_list(given: Any) -> None:
    cfg = tiny_cfg()
    cfg.OUTPUT.LOGGERS = given
    with pytest.raises(ConfigError, match="some of tensorboard, wandb, mlflow, csv"):
        check_config(cfg)


@pytest.mark.parametrize("given", [1.5, -0.1, "high", True])
def test_a_threshold_is_a_score(given: Any) -> None:
    cfg = tiny_cfg()
    cfg.TEST.BEST_CONFIDENCE = given
    with pytest.raises(
        ConfigError, match=r"TEST\.BEST_CONFIDENCE is .* score from 0 to 1, or None"
    ):
        check_config(cfg)


def test_a_missing_package_is_named_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"wandb is not installed: pip install 'solo-family\[wa"):
        build_loggers(["csv", "wandb"], str(tmp_path))


class Failing(Logger):
    name = "service"

    def open(self, resumed: bool) -> None:
        raise OSError("nobody is logged in\nand more")

    def log(self, iteration: int, values: dict[str, float]) -> None:
        raise OSError("connection lost")


def test_a_service_that_fails_ends_no_training_but_may_prevent_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Failing(tmp_path)
    with caplog.at_level(logging.WARNING), EventStorage(3) as storage:
        storage.put_scalar("total_loss", 1.0)
        failing.write()
        failing.write()
    assert [record.getMessage() for record in caplog.records] == [
        "service: connection lost. Nothing more is written to it."
    ]

    class FailingTrainer(Trainer):
        def build_writers(self) -> list[EventWriter]:
            return [Failing(tmp_path)]

    data = small_dataset(tmp_path / "data")
    with pytest.raises(ConfigError, match=r"service can't begin \(nobody is logged in\)"):
        FailingTrainer(run_cfg(data.name, tmp_path / "run")).train()
    open_loggers([], resumed=False)
