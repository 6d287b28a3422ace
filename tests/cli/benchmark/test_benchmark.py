"""The benchmark: which parts it times, and that they add up. How fast they are is not tested."""

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from solo_family import METHODS
from solo_family.__main__ import main
from solo_family.cli.benchmark import benchmark
from solo_family.cli.benchmark.benchmark import time_parts
from solo_family.cli.benchmark.benchmark_report import model_plot, summary, table
from solo_family.cli.benchmark.candidates import candidate_scores, candidates_table
from solo_family.errors import ConfigError

from ...coco_folder import write_cfg
from ...conftest import ROOT, eager_to_find, tiny_cfg, tiny_model

IMAGE = torch.zeros(3, 64, 96, dtype=torch.uint8)


class Sleeper(nn.Module):
    """A model whose parts take known times; one runs twice, one never."""

    class Part(nn.Module):
        def __init__(self, seconds: float) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))
            self.seconds = seconds

        def forward(self) -> None:
            time.sleep(self.seconds)

    def __init__(self) -> None:
        super().__init__()
        self.backbone = self.Part(0.02)
        self.head = self.Part(0.01)
        self.unused = self.Part(0.5)
        self.runs = 0

    def forward(self, batch: list[dict[str, Tensor]]) -> None:
        self.runs += 1
        time.sleep(0.03)
        self.backbone()
        self.head()
        time.sleep(0.015)
        self.head()
        time.sleep(0.025)


def test_the_model_s_own_gpu_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the current one, the first: times of `MODEL.DEVICE cuda:1` would be too short."""
    model = Sleeper()
    waited: set[torch.device] = set()
    parameter = argparse.Namespace(device=torch.device("cuda:1"))
    monkeypatch.setattr(model, "parameters", lambda: iter([parameter]))
    monkeypatch.setattr(torch.cuda, "synchronize", waited.add)
    time_parts(model, [IMAGE], repeats=1, warm_up=0)
    assert waited == {parameter.device}


def test_nothing_measures_the_current_gpu_unasked() -> None:
    """`engine/processes.py` makes a training's GPU the current one; operators are timed on it."""
    of_current = re.compile(r"\b(synchronize|mem_get_info|\w*memory_\w+)\(\)")
    allowed = {"engine/printer.py", "cli/benchmark/timing.py"}
    package = ROOT / "solo_family"
    found = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if any("torch.cuda" in line and of_current.search(line) for line in file.open())
    }
    assert found <= allowed


def test_every_part_has_its_own_time() -> None:
    model = Sleeper()
    timings = time_parts(model, [IMAGE], repeats=3, warm_up=2)
    assert model.runs == 5
    assert list(timings) == ["preprocessing", "backbone", "head", "post-processing", "total"]
    assert all(len(seconds) == 3 for seconds in timings.values())
    # Lower bounds only: the machine may be busy. Between two parts counts as after them.
    least = {"preprocessing": 0.03, "backbone": 0.02, "head": 0.02, "post-processing": 0.04}
    for part, seconds in least.items():
        assert min(timings[part]) >= 0.99 * seconds, part
    for index, total in enumerate(timings["total"]):
        assert total == pytest.approx(sum(timings[part][index] for part in least))


def test_no_hook_stays() -> None:
    model = Sleeper()
    time_parts(model, [IMAGE], repeats=1, warm_up=0)
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_parts_of_every_method(method: str) -> None:
    model = tiny_model(method).eval()
    parts = list(time_parts(model, [IMAGE], repeats=1, warm_up=0))
    assert parts[:2] == ["preprocessing", "backbone"]
    assert parts[-2:] == ["post-processing", "total"]
    assert len(parts) > 4
    if method == "SparseInst":
        assert parts[2:-2] == ["encoder", "decoder"]


def words(folder: Path, *more: Any) -> list[str]:
    cfg = tiny_cfg("SparseInst", opts=["INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 80])
    config = write_cfg(folder / "config.yaml", cfg)
    flags = ["--config-file", config, "--repeats", 2, "--warm-up", 1, *more]
    return ["benchmark", *map(str, flags)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_verb(precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--precision", precision, "--json", tmp_path / "out" / "times.json"]
    assert main(words(tmp_path, *flags)) == 0
    printed = capsys.readouterr().out
    # The width of 4:3 would be 85.
    assert f"SparseInst, 1 image of 64 x 80, {precision}, cpu" in printed
    assert "2 runs" in printed
    for part in ("preprocessing", "backbone", "encoder", "decoder", "post-processing", "images/s"):
        assert part in printed
    (run,) = json.loads((tmp_path / "out" / "times.json").read_text())["runs"]
    assert f"peak memory beyond the model: {run['peak_bytes'] / 1e6:.0f} MB" in printed
    for part, seconds in run["seconds"].items():
        assert run["summary"][part]["p50"] == pytest.approx(sum(seconds) / 2)


def test_every_precision_and_batch_size_has_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--precision", "float32", "bfloat16", "--batch-sizes", 1, 2, "--channels-last"]
    files = ["--json", tmp_path / "times.json", "--plot", tmp_path / "times.png"]
    assert main(words(tmp_path, "--warm-up", 0, "--repeats", 1, *flags, *files)) == 0
    printed = capsys.readouterr().out
    runs = json.loads((tmp_path / "times.json").read_text())["runs"]
    expected = [
        f"SparseInst, {images} of 64 x 80, {precision}, cpu"
        for precision in ("float32", "bfloat16")
        for images in ("1 image", "2 images")
    ]
    for run, about in zip(runs, expected, strict=True):
        assert run["run"].startswith(about)
        assert run["run"].endswith("channels last")
        assert run["run"] in printed
        total = run["summary"]["total"]
        assert total["images_per_second"] == pytest.approx(
            (2 if "2 images" in about else 1) / total["p50"]
        )
    assert (tmp_path / "times.png").stat().st_size > 1000


def test_every_part_is_compiled_when_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiled: list[Any] = []

    def record(function: Any) -> Any:
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", record)
    assert main(words(tmp_path, "--warm-up", 0, "--repeats", 1, "--compile")) == 0
    assert len(compiled) == 3  # backbone, encoder, decoder


TIMINGS = {
    "preprocessing": [0.0, 0.0, 0.0, 0.0, 0.0],
    "backbone": [0.05, 0.06, 0.07, 0.06, 0.06],
    "decoder": [0.03] * 5,
    "post-processing": [0.01] * 5,
    "total": [0.125] * 5,
}


def test_p50_p95_shares_and_speeds() -> None:
    timings = {part: seconds for part, seconds in TIMINGS.items() if part != "preprocessing"}
    lines = table(timings, batch_size=2).splitlines()[2:]
    assert [line.split() for line in lines] == [
        ["backbone", "60.00", "68.00", "60.0", "%", "33.3"],
        ["decoder", "30.00", "30.00", "30.0", "%", "66.7"],
        ["post-processing", "10.00", "10.00", "10.0", "%", "200.0"],
        ["network", "90.00", "98.00", "22.2"],
        ["total", "125.00", "125.00", "16.0"],
    ]


def test_parts_that_take_no_time_have_no_speed() -> None:
    assert summary(TIMINGS)["preprocessing"]["images_per_second"] == float("inf")


def test_the_plot_of_runs_with_different_parts(tmp_path: Path) -> None:
    model_plot({"a": TIMINGS, "b": {"backbone": [1.0], "total": [1.0]}}, tmp_path / "x.svg")
    assert "<svg" in (tmp_path / "x.svg").read_text()


def test_a_picture_is_resized_as_for_a_test(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (200, 100), (10, 20, 30)).save(tmp_path / "x.png")
    cfg = tiny_cfg(opts=["INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96])
    (image,) = benchmark._images(cfg, [str(tmp_path / "x.png")])
    assert image.shape == (3, 48, 96)
    assert image[:, 5, 5].tolist() == [10, 20, 30]


def test_batches_go_through_the_pictures_in_turn() -> None:
    seen = []

    class Recorder(Sleeper):
        def forward(self, batch: list[dict[str, Tensor]]) -> None:
            seen.append([int(item["image"][0, 0, 0]) for item in batch])
            super().forward(batch)

    images = [IMAGE + number for number in range(3)]
    time_parts(Recorder(), images, repeats=2, warm_up=1, batch_size=2)
    assert seen == [[0, 1], [2, 0], [1, 2]]


def test_a_folder_of_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for number, size in enumerate([(64, 48), (48, 64)]):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    assert main(words(tmp_path, "--input", tmp_path)) == 0
    assert "SparseInst, 1 image of up to 80 x 80" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags",
    [
        ["--repeats", 0],
        ["--warm-up", -1],
        ["--batch-sizes", 0],
        ["--input", "none.png"],
        ["--op", "decode"],
    ],
    ids=str,
)
def test_mistakes_are_one_line(
    flags: list, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path, *flags)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert str(flags[1] if flags[0] != "--op" else "--op") in error


def test_arguments_have_defaults() -> None:
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    args = parser.parse_args(["--config-file", "x.yaml"])
    assert (args.repeats, args.warm_up, args.precision) == (20, 3, ["float32"])


@pytest.mark.parametrize("method", ["SOLO", "DecoupledSOLO", "SOLOv2"])
def test_post_processing_of_so_many_candidates(method: str) -> None:
    model = eager_to_find(tiny_model(method))
    lines = candidates_table(model, IMAGE, [0, 1, 30], repeats=1).splitlines()[2:]
    rows = [[float(word) for word in line.split()] for line in lines]
    assert [row[0] for row in rows] == [0, 1, 30]
    assert rows[0][1] == 0
    assert rows[2][1] > 0
    assert all(row[2] > 0 and row[3] > 0 for row in rows)


@pytest.mark.parametrize("count", [0, 1, 37, 300])
def test_exactly_so_many_scores_are_above_the_threshold(count: int) -> None:
    scores = candidate_scores(100, 3, count, 0.1)
    assert scores.shape == (100, 3)
    assert (scores > 0.1).sum() == count
    assert scores.max() <= 1


@pytest.mark.parametrize(
    ("method", "counts", "message"),
    [("SparseInst", [1], "SparseInst has no grid"), ("SOLO", [10**6], "has 1000000 to 1000000")],
)
def test_candidates_that_can_not_be(method: str, counts: list[int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        candidates_table(tiny_model(method).eval(), IMAGE, counts, repeats=1)
