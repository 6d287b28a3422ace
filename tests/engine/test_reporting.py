"""A training ends with its report; whatever fails in that, the training has not."""

import json
import logging
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from solo_family.__main__ import main as command
from solo_family.engine.ending import ENDING
from solo_family.engine.main import main
from solo_family.engine.reporting import report_training
from solo_family.report import write
from solo_family.stopping import Stopped

from ..coco_folder import run_cfg, small_dataset, write_cfg
from ..conftest import tiny_cfg


@pytest.mark.slow
def test_a_training_ends_with_its_report(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data")
    opts = ("OUTPUT.LOGGERS", ("csv",), "SOLVER.MAX_ITER", 2, "OUTPUT.REPORT", True)
    cfg = run_cfg(data.name, tmp_path / "run", *opts, test=data.name)
    assert main(["--config-file", str(write_cfg(tmp_path / "c.yaml", cfg))]) == 0
    files = {path.name for path in (tmp_path / "run/report").iterdir()}
    assert {"report.md", "curves.png", "classes.csv", "confusion.png", "pr.png"} <= files
    assert (tmp_path / "run/metrics.csv").is_file()
    assert not list((tmp_path / "run").glob("events*"))
    # An evaluation by itself has another dataset, of which the report is then.
    other = small_dataset(tmp_path / "other", images=2)
    words = ["--config-file", str(tmp_path / "run/config.yaml"), "--eval-only"]
    words += ["DATASETS.TEST", f"('{other.name}',)"]
    shutil.copy(tmp_path / "run/model_final.pth", tmp_path / "a.pth")
    assert json.loads((tmp_path / "run/report/report.json").read_text())["images"] == 6
    assert main([*words, "MODEL.WEIGHTS", str(tmp_path / "a.pth")]) == 0
    assert report_of(tmp_path / "run")["images"] == 2
    assert f"those of `{tmp_path / 'a.pth'}`" in (tmp_path / "run/report/report.md").read_text()


def report_of(run: Path) -> dict[str, Any]:
    assert command(["report", str(run)]) == 0
    return json.loads((run / "report/report.json").read_text())


def test_no_iteration_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = run_cfg("a", tmp_path / "run", "SOLVER.MAX_ITER", 0)
    assert main(["--config-file", str(write_cfg(tmp_path / "c.yaml", cfg))]) == 2
    assert "error: SOLVER.MAX_ITER is 0; a training has 1 iteration" in capsys.readouterr().err


def test_a_failure_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: Any) -> Path:
        raise RuntimeError("no fonts\nand a long story")

    cfg = tiny_cfg(opts=["OUTPUT_DIR", str(tmp_path), "OUTPUT.REPORT", True])
    monkeypatch.setattr(write, "write_report", failing)
    with caplog.at_level(logging.WARNING, "solo_family"):
        report_training(cfg)
    (record,) = caplog.records
    again = f"python -m solo_family report {tmp_path}"
    assert record.getMessage() == (f"The training has ended; its report failed: no fonts ({again})")
    cfg.OUTPUT.REPORT = False
    report_training(cfg)
    assert len(caplog.records) == 1


def test_a_signal_ends_the_report_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "write_report", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(ENDING, "asked", 0)  # so that other tests find it as it was
    cfg = tiny_cfg(opts=["OUTPUT_DIR", str(tmp_path), "OUTPUT.REPORT", True])
    told = "the training is complete, its report is not"
    with pytest.raises(Stopped, match=told), ENDING.listening():
        report_training(cfg)
