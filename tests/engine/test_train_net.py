"""train_net.py and the demo as a user runs them, on a tiny dataset: real processes and files."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from detectron2.modeling import build_model

from solo_family.__main__ import main as solo_family
from solo_family.engine.main import main as train_net

from ..coco_folder import run_cfg, small_dataset, write_cfg
from ..conftest import ROOT, tiny_cfg
from ..forked import Forked

NAMES = ["circle", "rectangle", "triangle", "star", "ring"]


class Run(NamedTuple):
    """A finished training of three iterations."""

    config: Path
    output: Path
    dataset: Path
    printed: str


def run_python(*words: object, timeout: int = 300) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def train(*words: object) -> subprocess.CompletedProcess[str]:
    return run_python(ROOT / "train_net.py", "--config-file", *words)


def write_config(path: Path, dataset: Path, *opts: Any, num_classes: int = 0) -> Path:
    splits = {
        split: (f"coco_json:{dataset}/annotations/{split}.json:{dataset}/{split}",)
        for split in ("train", "val")
    }
    cfg = tiny_cfg(
        num_classes=num_classes,
        opts=[
            *("DATASETS.TRAIN", splits["train"], "DATASETS.TEST", splits["val"]),
            *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64),
            *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 3, "SOLVER.STEPS", ()),
            *("DATALOADER.NUM_WORKERS", 0, "SEED", 1),
            # Scores of about a half from the start, so that there is something to evaluate.
            *("MODEL.SOLOV2.PRIOR_PROB", 0.5),
            *opts,
        ],
    )
    write_cfg(path, cfg)
    return path


def iterations(output: Path) -> list[int]:
    lines = (output / "metrics.json").read_text().splitlines()
    return [json.loads(line)["iteration"] for line in lines]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Run:
    root = tmp_path_factory.mktemp("train_net")
    dataset = root / "shapes"
    shutil.copytree(shapes, dataset)
    config = write_config(root / "tiny.yaml", dataset)
    process = train(config, "OUTPUT_DIR", root / "run")
    assert process.returncode == 0, process.stderr
    return Run(config, root / "run", dataset, process.stdout)


def test_training_leaves_weights_metrics_and_a_config_that_names_the_classes(trained: Run) -> None:
    weights = torch.load(trained.output / "model_final.pth", weights_only=False)
    assert weights["iteration"] == 2
    assert weights["model"]["head.category_branch.logits.bias"].shape == (5,)
    assert iterations(trained.output)
    config = (trained.output / "config.yaml").read_text()
    assert "NUM_CLASSES: 5" in config
    assert all(f"- {name}\n" in config for name in NAMES)


def test_training_ends_with_an_evaluation_of_masks(trained: Run) -> None:
    assert "Evaluation results for segm" in trained.printed
    last = json.loads((trained.output / "metrics.json").read_text().splitlines()[-1])
    assert 0 <= last["segm/AP"] <= 100
    results = json.loads((trained.output / "inference/coco_instances_results.json").read_text())
    assert results
    assert {result["category_id"] for result in results} <= {1, 2, 3, 4, 5}


@pytest.mark.slow
def test_evaluation_alone_repeats_the_metrics(trained: Run, tmp_path: Path) -> None:
    words = ["MODEL.WEIGHTS", trained.output / "model_final.pth", "OUTPUT_DIR", tmp_path]
    words += ["MODEL.INFERENCE.OPTIMIZE", "off"]  # as evaluations during training
    process = train(trained.config, "--eval-only", *words)
    assert process.returncode == 0, process.stderr
    assert "Task: segm" in process.stdout
    assert not (tmp_path / "model_final.pth").exists()
    first, again = (
        json.loads((folder / "inference/coco_instances_results.json").read_text())
        for folder in (trained.output, tmp_path)
    )
    assert [r["segmentation"] for r in first] == [r["segmentation"] for r in again]


def test_an_evaluation_of_random_weights_says_so(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data", images=1).name
    for name, weights in (("random", ""), ("trained", tmp_path / "trained.pth")):
        cfg = run_cfg(dataset, tmp_path / name, "MODEL.WEIGHTS", str(weights), test=dataset)
        if weights:
            torch.save({"model": build_model(cfg).state_dict()}, weights)
        words = ["--config-file", str(write_cfg(tmp_path / "config.yaml", cfg)), "--eval-only"]
        assert train_net(words) == 0
        log = (tmp_path / name / "log.txt").read_text()
        stated = "MODEL.WEIGHTS is empty: random weights are evaluated. Name a file there, or add"
        assert (stated in log) == (not weights)


@pytest.mark.slow
def test_a_resumed_run_goes_on_from_the_checkpoint(trained: Run, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(trained.output, output)
    before = iterations(output)
    words = ["OUTPUT_DIR", output, "SOLVER.MAX_ITER", 5]
    process = train(trained.config, "--resume", *words)
    assert process.returncode == 0, process.stderr
    assert "Starting training from iteration 3" in process.stdout
    assert torch.load(output / "model_final.pth", weights_only=False)["iteration"] == 4
    after = iterations(output)
    assert after[: len(before)] == before
    assert max(after) > max(before)


@pytest.mark.slow
def test_two_processes_train_on_the_cpu(trained: Run, tmp_path: Path) -> None:
    words = ["--num-gpus", 2, "--dist-url", "auto", "OUTPUT_DIR", tmp_path]
    process = train(trained.config, *words, "SOLVER.MAX_ITER", 2)
    assert process.returncode == 0, process.stderr
    weights = torch.load(tmp_path / "model_final.pth", weights_only=False)
    assert weights["iteration"] == 1
    assert not [key for key in weights["model"] if key.startswith("module.")]
    assert (tmp_path / "log.txt.rank1").is_file()
    assert "Evaluation results for segm" in process.stdout


def assert_one_line(process: subprocess.CompletedProcess[str], *words: str) -> None:
    assert process.returncode == 2, process.stderr
    errors = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Traceback" not in process.stderr + process.stdout
    for word in words:
        assert word in errors[0]


def test_a_wrong_class_count_is_one_line(shapes: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml", shapes, num_classes=7)
    words = ["--config-file", config, "OUTPUT_DIR", tmp_path / "run"]
    with Forked(train_net, words, tmp_path) as run:
        line = run.error()
    assert "MODEL.SOLOV2.NUM_CLASSES is 7" in line
    assert "5 classes" in line


@pytest.mark.slow
def test_a_wrong_class_count_is_one_line_with_two_processes_too(
    shapes: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "tiny.yaml", shapes, num_classes=7)
    process = train(config, "--num-gpus", 2, "--dist-url", "auto", "OUTPUT_DIR", tmp_path / "run")
    assert_one_line(process, "MODEL.SOLOV2.NUM_CLASSES is 7", "5 classes")


def test_a_missing_config_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_net(["--config-file", f"{tmp_path}/none.yaml"]) == 2
    said = "there is no such file. Correct the path."
    expected = f"error: --config-file {tmp_path}/none.yaml: {said}\n"
    assert capsys.readouterr().err == expected
    assert train_net([]) == 2
    assert "--config-file is needed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_missing_config_is_one_line_from_the_shell(tmp_path: Path) -> None:
    assert_one_line(train(tmp_path / "none.yaml"), f"--config-file {tmp_path}/none.yaml")


def demo_words(run: Run, image: Path, output: Path) -> list[Any]:
    words = ["--config-file", run.output / "config.yaml", "--input", image, "--output", output]
    words += ["--opts", "MODEL.WEIGHTS", run.output / "model_final.pth"]
    return ["demo", *words]


@pytest.mark.slow
def test_the_demo_takes_what_training_saved(trained: Run, tmp_path: Path) -> None:
    image = trained.dataset / "val" / "000001.jpg"
    words = demo_words(trained, image, tmp_path / "picture.jpg")
    process = run_python("-m", "solo_family", *words)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "picture.jpg").stat().st_size > 1000


def test_the_demo_needs_no_dataset(trained: Run, tmp_path: Path) -> None:
    image = tmp_path / "image.jpg"
    shutil.copy(trained.dataset / "val" / "000001.jpg", image)
    away = trained.dataset.with_name("moved")
    trained.dataset.rename(away)
    words = demo_words(trained, image, tmp_path / "picture.jpg")
    try:
        with Forked(solo_family, words, tmp_path) as run:
            assert run.status() == 0, run.printed
    finally:
        away.rename(trained.dataset)
    assert (tmp_path / "picture.jpg").stat().st_size > 1000
