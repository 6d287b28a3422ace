"""metrics.json as curves: runs that were resumed, killed, or evaluated once."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from solo_family.report.curves import draw_curves, evaluation_curves, loss_curves, read_metrics
from solo_family.report.folds import last_results, summary


def write(folder: Path, rows: list[dict[str, Any]], end: str = "") -> Path:
    path = folder / "metrics.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + end)
    return path


def test_what_a_resumed_run_repeats_replaces_what_it_wrote_before(tmp_path: Path) -> None:
    rows = [
        {"iteration": 19, "total_loss": 3.0},
        {"iteration": 39, "total_loss": 2.0},
        {"iteration": 29, "segm/AP": 10.0},  # an evaluation is written after later losses
        {"iteration": 59, "total_loss": 9.0},
        {"iteration": 49, "total_loss": 1.5},  # resumed after 40 iterations
        {"iteration": 50, "segm/AP": 12.0, "segm/APl": None},
    ]
    metrics = read_metrics(write(tmp_path, rows, end='{"iteration": 7'), last=50)
    assert metrics["total_loss"] == ([20, 40, 50], [3.0, 2.0, 1.5])
    assert metrics["segm/AP"] == ([30, 50], [10.0, 12.0])
    assert "segm/APl" not in metrics
    assert read_metrics(tmp_path / "none.json", last=50) == {}


def test_an_evaluation_at_the_end_of_a_run_that_went_on_later(tmp_path: Path) -> None:
    rows = [
        {"iteration": 3, "total_loss": 4.0, "segm/AP": 10.0},
        {"iteration": 7, "total_loss": 3.0},
        {"iteration": 8, "segm/AP": 30.0},  # MAX_ITER was 8
        {"iteration": 8, "segm_ema/AP": 31.0},
        {"iteration": 11, "total_loss": 2.0, "segm/AP": 20.0},
        {"iteration": 13, "total_loss": 1.0},
        {"iteration": 14, "segm/AP": 25.0},
    ]
    metrics = read_metrics(write(tmp_path, rows), last=14)
    assert metrics["total_loss"][0] == [4, 8, 12, 14]
    assert metrics["segm/AP"] == ([4, 8, 12, 14], [10.0, 30.0, 20.0, 25.0])
    assert metrics["segm_ema/AP"] == ([8], [31.0])


def test_the_sum_of_the_losses_and_the_main_metrics_are_drawn(tmp_path: Path) -> None:
    one = ([1], [1.0])
    names = ["loss_b", "loss_b_0", "total_loss", "validation/total_loss", "lr", "a/segm/AP"]
    names += ["segm_ema/AP50", "bbox/AP", "sem_seg/mIoU", "segm/AP-segm/AP50"]
    metrics = dict.fromkeys(names, one)
    losses = list(loss_curves(metrics))
    assert losses == ["total_loss", "validation/total_loss", "loss_b"]
    assert list(evaluation_curves(metrics)) == ["a/segm/AP", "segm_ema/AP50", "sem_seg/mIoU"]
    draw_curves(tmp_path / "both.png", metrics)
    draw_curves(tmp_path / "losses.png", {"total_loss": one})
    assert Image.open(tmp_path / "both.png").width > Image.open(tmp_path / "losses.png").width


def test_folds_are_summarised(tmp_path: Path) -> None:
    rows = [
        {"iteration": 9, "segm/AP": 1.0, "segm/AP50": 2.0, "total_loss": 3.0},
        {"iteration": 20, "segm/AP": 30.0},
    ]
    write(tmp_path, rows)
    assert last_results(tmp_path) == {"segm/AP": 30.0}
    text = summary("data", [{"segm/AP": 30.0}, {"segm/AP": 34.0}, {}])
    assert "| segm/AP | 32.0 | 2.8 | 30.0 | 34.0 | - |" in text
