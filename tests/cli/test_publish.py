"""`publish`: a folder that gives what the run gives, on any machine, with a card that is true."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from detectron2.modeling import build_model
from huggingface_hub import ModelCard
from PIL import Image
from safetensors import safe_open

from solo_family import Predictor
from solo_family.__main__ import main
from solo_family.checkpoint.origin import Origin, is_non_commercial, origin_of_weights
from solo_family.config import setup_cfg
from solo_family.engine.main import main as train_net
from solo_family.publishing.scores import read_scores, shown_dataset

from ..coco_folder import small_dataset, write_cfg
from ..conftest import eager_to_find, of_all_or_slow, tiny_cfg
from ..fetch.server import Hub

NAMES = ["bird", "cat", "fish"]


def write_run(
    folder: Path,
    method: str = "SOLOv2",
    opts: tuple = (),
    classes: list[str] = NAMES,
    **content: Any,
) -> Path:
    """Writes a run whose model finds something, with a folder of this machine in its config."""
    folder.mkdir(parents=True)
    names = () if method == "InstanceFCN" else ("MODEL.CLASS_NAMES", classes)
    keys = [*names, "OUTPUT_DIR", str(folder), "INPUT.MIN_SIZE_TEST", 64, *opts]
    cfg = tiny_cfg(method, len(classes), keys)
    write_cfg(folder / "config.yaml", cfg)
    torch.manual_seed(0)
    model = eager_to_find(build_model(cfg))
    torch.save({"model": model.state_dict(), **content}, folder / "model_final.pth")
    return folder


def noise(path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def publish(run: Path, output: Path, *words: str) -> int:
    return main(["publish", str(run), "--output", str(output), *words])


def assert_same(one: Any, other: Any) -> None:
    assert len(one) == len(other) > 0
    assert np.array_equal(one.masks, other.masks)
    assert np.array_equal(one.scores, other.scores)
    assert one.names == other.names


@pytest.mark.parametrize("method", of_all_or_slow("MaskFormer", "SparseInst"))
def test_the_folder_gives_what_the_run_gives(method: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", method)
    image = noise(tmp_path / "image.png")
    assert publish(run, tmp_path / "new" / "model", "--no-picture") == 0
    shared = tmp_path / "elsewhere"
    (tmp_path / "new" / "model").rename(shared)
    expected = Predictor(run, device="cpu", confidence_threshold=0.0)(image)
    # Nothing of the run is needed any more.
    run.rename(tmp_path / "gone")
    assert_same(Predictor(shared, device="cpu", confidence_threshold=0.0)(image), expected)


def test_a_panoptic_model_keeps_things_and_stuff(tmp_path: Path) -> None:
    keys = ("MODEL.MASK_FORMER.TEST.PANOPTIC_ON", True, "MODEL.STUFF_IDS", [2])
    run = write_run(tmp_path / "run", "MaskFormer", keys)
    image = noise(tmp_path / "image.png")
    assert publish(run, tmp_path / "model", "--picture", str(image)) == 0
    segments, infos = Predictor(run, device="cpu")(image).panoptic
    others, their_infos = Predictor(tmp_path / "model", device="cpu")(image).panoptic
    assert np.array_equal(segments, others)
    assert infos == their_infos
    assert "| 2       | fish   | stuff |" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_what_the_card_tells_to_do_works_for_every_task(tmp_path: Path, task: str) -> None:
    keys: list[Any] = ["MODEL.STUFF_IDS", [2]]
    for one in ("semantic", "panoptic", "instance"):
        keys += [f"MODEL.MASK_FORMER.TEST.{one.upper()}_ON", one == task]
    run = write_run(tmp_path / "run", "MaskFormer", tuple(keys))
    image = noise(tmp_path / "image.png")
    words = ("--picture", str(image), "--repository", "me/model")
    assert publish(run, tmp_path / "model", *words) == 0
    card = (tmp_path / "model" / "README.md").read_text()
    # Only instances have scores.
    assert ("with a score of at least" in card) == (task == "instance")
    (code,) = re.findall("```python\n(.*?)```", card, re.DOTALL)
    code = code.replace("hf:me/model", str(tmp_path / "model")).replace("photo.jpg", str(image))
    exec(code, {})


def test_nothing_of_the_machine_is_in_it_and_the_config_is_the_models(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data").name
    weights = tmp_path / "began.pth"
    torch.save({"model": {}}, weights)
    keys: list[Any] = [
        *("DATASETS.TRAIN", (dataset,), "DATASETS.TEST", (dataset,), "MODEL.CLASS_IDS", [3, 5])
    ]
    keys += ["MODEL.WEIGHTS", str(weights), "MODEL.TIMM.WEIGHTS", "~/timm.pth"]
    keys += ["MODEL.SOLOV2.SCORE_THR", 0.12]
    run = write_run(tmp_path / "run", "SOLOv2", tuple(keys), ["cat", "dog"])
    output = tmp_path / "model"
    assert publish(run, output, "--no-picture") == 0
    text = (output / "config.yaml").read_text()
    with safe_open(output / "model.safetensors", framework="pt") as file:
        notes = str(file.metadata())
    for part in (text, (output / "README.md").read_text(), notes):
        assert str(tmp_path.parent) not in part
        assert "~/" not in part
    cfg = setup_cfg(str(output / "config.yaml"), ["MODEL.DEVICE", "cpu"])
    assert str(output / "model.safetensors") == cfg.MODEL.WEIGHTS
    assert (list(cfg.MODEL.CLASS_NAMES), list(cfg.MODEL.CLASS_IDS)) == (["cat", "dog"], [3, 5])
    assert (cfg.MODEL.SOLOV2.NUM_CLASSES, cfg.MODEL.SOLOV2.SCORE_THR) == (2, 0.12)
    assert (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST) == ()
    # The keys of other methods say nothing of this model; later defaults of its own don't matter.
    keys_of_model = yaml.safe_load(text)["MODEL"]
    assert not {"SOLO", "SPARSE_INST", "MASK_FORMER"} & set(keys_of_model)
    assert keys_of_model["SOLOV2"]["NMS_KERNEL"] == "gaussian"


def write_measured_run(folder: Path, data: Path) -> Path:
    """A run of 40 iterations on six images, evaluated twice; an image has 120 detections."""
    dataset = small_dataset(data).name
    keys: tuple[Any, ...] = ("DATASETS.TRAIN", (dataset,), "DATASETS.TEST", (dataset,))
    keys += ("SOLVER.MAX_ITER", 40)
    keys += ("MODEL.CLASS_IDS", [3, 5])
    run = write_run(folder, "SOLOv2", keys, ["cat", "dog"], iteration=39)
    rows = [
        {"iteration": 19, "total_loss": 3.0},
        {"iteration": 19, "segm/AP": 11.0, "segm/AP50": 20.0, "segm/AP-cat": 9.0},
        {"iteration": 40, "segm/AP": 31.25, "segm/AP50": 52.5, "segm/APl": None}
        | {"segm/AP-cat": 44.5, "segm_ema/AP": 35.0, "bbox/AP": 30.0},
    ]
    (run / "metrics.json").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (run / "inference").mkdir()
    results = [{"image_id": 1}] * 120 + [{"image_id": 2}] * 3
    (run / "inference" / "coco_instances_results.json").write_text(json.dumps(results))
    return run


def test_the_card_says_what_the_model_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_measured_run(tmp_path / "run", tmp_path / "data")
    output = tmp_path / "my model"
    words = ("--licence", "Apache-2.0", "--name", "Two animals", "--repository", "me/animals")
    assert publish(run, output, *words) == 0
    printed = capsys.readouterr().out
    assert f"hf upload me/animals '{output}'" in printed
    assert "shows" in printed
    assert "WARNING" not in printed
    card = ModelCard.load(output / "README.md")  # the Hub's own reader
    assert (card.data.license, card.data.library_name) == ("apache-2.0", "solo_family")
    assert {"solov2", "detectron2", "instance-segmentation"} <= set(card.data.tags)
    assert card.data.datasets == ["data-instances"]
    assert card.data.metrics == ["AP", "AP50"]
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results == {"AP": 31.25, "AP50": 52.5}
    parameters = sum(p.numel() for p in build_model(tiny_cfg("SOLOv2", 2)).parameters())
    for part in (
        "# Two animals",
        f"{parameters:,} parameters, 2 classes",
        'Predictor("hf:me/animals")',
        "Trained on data/instances.json (6 images).",
        "40 iterations of 16 images",
        "Measured on data/instances.json (6 images).",
        "maxDets is 120",
        "| segm/AP   | 31.25   |",
        "| 0       | cat    | 3                   | 44.50 |",
        "These weights: Apache-2.0.",
        "training began with: random weights",
        "![Predictions",
    ):
        assert part in card.content, part
    assert "11.0" not in card.content
    assert "35.0" not in card.content
    assert Image.open(output / "picture.jpg").size in ((64, 48), (48, 64))


def test_weights_without_an_evaluation_get_no_other_weights_metrics(tmp_path: Path) -> None:
    run = write_measured_run(tmp_path / "run", tmp_path / "data")
    content = torch.load(run / "model_final.pth", weights_only=True)
    torch.save(content | {"iteration": 29}, run / "model_0000029.pth")
    torch.save({"model": content["model"]}, run / "model_final_ema.pth")
    other = ("--weights", str(run / "model_0000029.pth"), "--no-picture")
    assert publish(run, tmp_path / "other", *other) == 0
    assert "no evaluation of these weights" in (tmp_path / "other" / "README.md").read_text()
    averaged = ("--weights", str(run / "model_final_ema.pth"), "--no-picture")
    assert publish(run, tmp_path / "averaged", *averaged) == 0
    text = (tmp_path / "averaged" / "README.md").read_text()
    assert "35.00" in text
    assert "31.25" not in text


@pytest.mark.parametrize(("period", "has_metrics"), [(0, True), (20, True), (41, False)])
def test_weights_that_were_final_keep_their_metrics_in_a_longer_run(
    tmp_path: Path, period: int, has_metrics: bool
) -> None:
    """Row 40 is of the weights of 40 iterations; with a period of 41 it is of those of 41."""
    run = write_measured_run(tmp_path / "run", tmp_path / "data")
    cfg = setup_cfg(
        str(run / "config.yaml"), ["SOLVER.MAX_ITER", "80", "TEST.EVAL_PERIOD", str(period)]
    )
    metrics = read_scores(run, cfg, 39, averaged=False).metrics
    assert metrics.get("segm/AP") == (31.25 if has_metrics else None)


ZOO = "zoo:SOLOv2/solov2_R50_3x.yaml"


def test_weights_that_forbid_commercial_use_are_told_loudly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", "SOLOv2", ("MODEL.WEIGHTS", ZOO))
    output = tmp_path / "model"
    assert publish(run, output, "--no-picture", "--licence", "my-own-terms") == 0
    warning = f"Not for commercial use: training began with {ZOO}, licence: non-commercial."
    assert f"WARNING: {warning}" in capsys.readouterr().out
    text = (output / "README.md").read_text()
    assert f"> **{warning} The licence my-own-terms of this model does not change that.**" in text
    front = ModelCard(text).data.to_dict()
    assert (front["license"], front["license_name"]) == ("other", "my-own-terms")
    # Who trains on from the folder, or from its weights alone, is told as well.
    assert origin_of_weights(str(output / "model.safetensors")).is_non_commercial
    again = write_run(tmp_path / "again", opts=("MODEL.WEIGHTS", str(output / "model.safetensors")))
    assert publish(again, tmp_path / "second", "--no-picture") == 0
    assert "WARNING: Not for commercial use" in capsys.readouterr().out


def test_the_licence_of_what_a_run_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOLO_FAMILY_CACHE", str(tmp_path / "cache"))
    kept = Origin("published weights of SOLO", "non-commercial")
    torch.save({"model": {}, "origin": kept.as_dict()}, tmp_path / "by_init.pth")
    assert origin_of_weights(str(tmp_path / "by_init.pth")) == kept
    torch.save({"model": {}}, tmp_path / "mine.pth")
    assert origin_of_weights(str(tmp_path / "mine.pth")) == Origin("mine.pth")
    # What others have written there is no text.
    torch.save({"origin": {"weights": "a", "licence": None}}, tmp_path / "odd.pth")
    assert origin_of_weights(str(tmp_path / "odd.pth")) == Origin("odd.pth")
    assert origin_of_weights("/nonexistent/gone.pth") == Origin("gone.pth")
    card = b"---\nlicense: cc-by-nc-4.0\ntags: [a]\n---\n# A model\n"
    with Hub({"me/model": {"README.md": card}, "me/bare": {"a.pth": b""}}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        assert origin_of_weights("hf:me/model/a.pth").licence == "cc-by-nc-4.0"
        assert origin_of_weights("hf:me/bare/a.pth").licence == ""
    for licence in ("cc-by-nc-4.0", "CC-BY-NC 4.0 (non-commercial)", "Noncommercial research only"):
        assert is_non_commercial(licence), licence
    for licence in ("apache-2.0", "MIT", "CC-BY-SA-3.0", "", "ncsa"):
        assert not is_non_commercial(licence), licence


@pytest.mark.parametrize(
    ("make", "words", "message"),
    [
        ("", (), r"run is no training run: there is no config\.yaml"),
        ("model.json", (), r"exported model: name the run it is of"),
        ("config.yaml", (), r"neither model_final\.pth nor another checkpoint"),
        ("run", ("--weights", "none.pth"), r"--weights none\.pth: there is no such file"),
        ("run", ("--picture", "none.png"), r"--picture none\.png: there is no such file"),
        ("run", ("--picture", "{run}/config.yaml"), r"can't be read as an image"),
        ("run", ("--repository", "mine"), r"write OWNER/REPO, for instance me/model"),
        ("full", (), r"exists and is not empty: name another folder"),
    ],
)
def test_what_can_not_be_published_leaves_nothing(
    make: str,
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, output = tmp_path / "run", tmp_path / "model"
    if make in ("run", "full"):
        write_run(run)
    else:
        run.mkdir()
        if make:
            (run / make).write_text("")
    if make == "full":
        output.mkdir()
        (output / "mine.txt").write_text("kept")
    assert publish(run, output, *(word.format(run=run) for word in words)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(message, error), error
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == (["model", "run"] if make == "full" else ["run"])


@pytest.mark.slow
def test_a_name_of_the_hub_is_the_model_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run")
    image = noise(tmp_path / "image.png")
    assert publish(run, tmp_path / "model", "--no-picture") == 0
    data = small_dataset(tmp_path / "data")
    monkeypatch.setenv("SOLO_FAMILY_CACHE", str(tmp_path / "cache"))
    files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    with Hub({"me/model": files}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        words = ["--config-file", "hf:me/model", "--input", str(data.root / "images")]
        assert main(["demo", *words, "--output", str(tmp_path / "out")]) == 0
        there = Predictor("hf:me/model", device="cpu", confidence_threshold=0.0)
        assert_same(there(image), Predictor(run, device="cpu", confidence_threshold=0.0)(image))
        words = ["--from", "hf:me/model", "--seconds-per-iteration", "1"]
        config = tmp_path / "new" / "my.yaml"
        init = ["init", "--train", f"{data.json}:{data.root / 'images'}", "--output", str(config)]
        assert main([*init, *words]) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 6
    cfg = setup_cfg(str(config), ["MODEL.DEVICE", "cpu"])
    began = torch.load(cfg.MODEL.WEIGHTS, weights_only=True)
    old = torch.load(run / "model_final.pth", weights_only=True)["model"]
    name = "head.category_branch.logits.bias"
    assert began["model"][name][0] == old[name][1]  # cat
    assert began["origin"]["weights"].startswith("hf:me/model/model.safetensors@")


@pytest.mark.slow
def test_training_begins_with_a_model_of_the_hub_and_is_evaluated_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", classes=["cat", "dog"])
    assert publish(run, tmp_path / "model", "--no-picture") == 0
    dataset = small_dataset(tmp_path / "data").name
    monkeypatch.setenv("SOLO_FAMILY_CACHE", str(tmp_path / "cache"))
    files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    words = ["DATASETS.TEST", f"('{dataset}',)", "DATALOADER.NUM_WORKERS", "0"]
    short = ["DATASETS.TRAIN", f"('{dataset}',)", "SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH"]
    short += ["1", "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "0", "TEST.EVAL_PERIOD", "0"]
    short += ["SOLVER.BASE_LR", "0.0001", "SEED", "1"]
    with Hub({"me/model": files}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        name = ["--config-file", "hf:me/model"]
        tested = [*name, "--eval-only", *words, "OUTPUT_DIR", str(tmp_path / "tested")]
        assert train_net(tested) == 0
        trained = [*name, *words, *short, "OUTPUT_DIR", str(tmp_path / "trained")]
        assert train_net(trained) == 0
    cfg = setup_cfg(str(tmp_path / "trained" / "config.yaml"))
    assert f"hf:me/model/model.safetensors@{'a' * 40}" == cfg.MODEL.WEIGHTS
    both = run / "model_final.pth", tmp_path / "trained" / "model_final.pth"
    old, new = (torch.load(file, "cpu", weights_only=True)["model"] for file in both)
    largest = max((old[name] - new[name]).abs().max() for name in old if name.endswith("weight"))
    assert 0 < largest < 0.1  # one step from there


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("coco_2017_val", "coco_2017_val"),
        ("coco_json:/a/shapes/annotations/train.json:/a/shapes/train", "shapes/train.json"),
        ("coco_json:train.json?crowd=objects:images", "train.json"),
        ("yolo:/data/cells:val", "data/cells"),
        ("yolo:/cells", "cells"),
    ],
)
def test_datasets_are_shown_without_their_paths(name: str, shown: str) -> None:
    assert shown_dataset(name) == shown
