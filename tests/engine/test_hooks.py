"""What a run shows of itself: its log line, TensorBoard, pictures."""

import io
import json
import logging
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from detectron2.utils.env import seed_all_rng
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from solo_family.engine.trainer import Trainer
from solo_family.report.curves import read_metrics

from ..coco_folder import CocoFolder, noise, rectangle, run_cfg, small_dataset

PERIOD = 6  # of pictures, in iterations


class Run(NamedTuple):
    output: Path
    lines: list[str]
    events: EventAccumulator


@pytest.fixture(scope="module", params=["RGB", pytest.param("BGR", marks=pytest.mark.slow)])
def run(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Run:
    seed_all_rng(0)
    root = tmp_path_factory.mktemp("hooks")
    folder = CocoFolder(root / "data", {1: "cat", 2: "dog"})
    red = Image.new("RGB", (64, 48), (250, 10, 10))
    folder.add("red.png", red, [rectangle(5, 5, 20, 20)])
    folder.add("empty.png", noise(48, 64), [])
    opts = [
        "VIS_PERIOD",
        PERIOD,
        "SOLVER.MAX_ITER",
        24,
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS",
        False,
    ]
    cfg = run_cfg(folder.write(), root / "run", *opts, "INPUT.FORMAT", request.param)
    (root / "run").mkdir()
    stream = io.StringIO()
    handler, logger = logging.StreamHandler(stream), logging.getLogger("solo_family")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        Trainer(cfg).train()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    events = EventAccumulator(str(root / "run"), size_guidance={"images": 0})
    return Run(root / "run", stream.getvalue().splitlines(), events.Reload())


def test_the_log_line_has_eta_data_time_and_memory(run: Run) -> None:
    (line,) = [line for line in run.lines if "iter: 20/24" in line]
    parts = [
        *(r"eta: 0:00:\d\d", r"loss_class: [\d.]+", r"loss_dice: [\d.]+", r"time: [\d.]+ s"),
        *(r"data_time: [\d.]+ s", r"lr: [\d.e-]+", r"memory: \d+ MB"),
    ]
    for part in parts:
        assert re.search(rf"(^|  ){part}", line), (part, line)
    megabytes = int(re.search(r"memory: (\d+)", line)[1])
    assert 100 < megabytes < 100_000


def test_tensorboard_holds_what_metrics_json_holds(run: Run) -> None:
    names = {"loss_class", "loss_dice", "total_loss", "lr", "time", "data_time"}
    assert names <= set(run.events.Tags()["scalars"])
    lines = [json.loads(line) for line in (run.output / "metrics.json").read_text().splitlines()]
    for name in ("loss_dice", "lr"):
        scalars = {event.step: event.value for event in run.events.Scalars(name)}
        for line in lines:
            assert scalars[line["iteration"]] == pytest.approx(line[name], rel=1e-5)


def test_pictures_of_truth_beside_prediction(run: Run) -> None:
    tags = {f"truth_and_prediction/{index}" for index in range(2)}
    assert set(run.events.Tags()["images"]) == tags
    images = [event for tag in sorted(tags) for event in run.events.Images(tag)]
    assert {event.step for event in images} == {*range(PERIOD - 1, 24, PERIOD)}
    reds = []
    for event in images:
        picture = np.asarray(Image.open(io.BytesIO(event.encoded_image_string))).astype(int)
        assert picture.shape == (48, 128, 3)
        left, right = picture[:, :64], picture[:, 64:]
        corner = left[-4:, -4:].mean((0, 1))
        if corner[0] > 2 * corner[1:].max():  # the red image, in its colours
            reds.append(np.abs(left[10:20, 10:20] - left[30:40, 40:50].mean((0, 1))).mean())
            assert np.abs(left - right).max() > 30  # an untrained model's prediction is not truth
    assert len(reds) >= 24 // PERIOD
    assert np.median(reds) > 20  # the object is drawn, in a colour of chance


def test_every_evaluation_is_written(tmp_path: Path) -> None:
    """Also of those that follow faster than the writers' own 20 iterations."""
    dataset = small_dataset(tmp_path / "data", images=2).name
    opts = ["SOLVER.MAX_ITER", 4, "TEST.EVAL_PERIOD", 1, "OUTPUT.LOGGERS", ("csv", "tensorboard")]
    cfg = run_cfg(dataset, tmp_path / "run", *opts, "TEST.EVAL_LOSS", True, test=dataset)
    (tmp_path / "run").mkdir()
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    names = ["segm/AP", "validation/total_loss"]
    for name in names:
        steps, values = read_metrics(tmp_path / "run" / "metrics.json", 4)[name]
        assert steps == [1, 2, 3, 4]
        table = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
        written = [row.split(",")[2] for row in table if row.split(",")[1] == name]
        assert list(map(float, written)) == values
        events = EventAccumulator(str(tmp_path / "run")).Reload()
        assert [event.step for event in events.Scalars(name)] == [0, 1, 2, 4]


def test_training_goes_on_in_training_mode(run: Run) -> None:
    lines = [json.loads(line) for line in (run.output / "metrics.json").read_text().splitlines()]
    assert lines[-1]["iteration"] == 23
