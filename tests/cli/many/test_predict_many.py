"""predict-many in one process, from pictures to shards and COCO's files, with a plain model."""

import argparse
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from detectron2.data import Metadata
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.cli import demo, predict_many
from solo_family.cli.many import run as run_module
from solo_family.cli.many import worker as worker_module
from solo_family.cli.many.model import Description, describe_model
from solo_family.data.loading.images import Reading
from solo_family.errors import ConfigError, OutOfMemoryError, SoloFamilyError
from solo_family.predictor.predictions import Predictions
from solo_family.predictor.sources import Source

from ...coco_folder import write_cfg
from ...conftest import tiny_cfg
from ..test_demo import METADATA, _find_bright_regions, _save, _scene


class Model:
    """Connected bright regions; it fails, or is interrupted, as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, metadata: Metadata = METADATA) -> None:
        self.seen: list[tuple[int, ...]] = []
        self.limit, self.key, self.semantic = 10**9, "one", False
        source = Source(self.predict, metadata, Reading(), batch=2)
        monkeypatch.setattr(worker_module, "open_model", lambda *_: source)
        monkeypatch.setattr(
            run_module, "describe_model", lambda _: Description(metadata, Reading(), self.key)
        )
        monkeypatch.setattr(demo, "_open_model", lambda _: (source, "key"))

    def predict(self, images: list[np.ndarray]) -> list[Predictions]:
        if len(self.seen) >= self.limit:
            raise KeyboardInterrupt
        self.seen += [image.shape[:2] for image in images]
        if any(image.shape[0] == 99 for image in images):
            raise OutOfMemoryError("too large")
        if self.semantic:
            bright = [torch.from_numpy(image[:, :, 0] > 100) for image in images]
            return [{"sem_seg": torch.stack([~one, one]).float()} for one in bright]
        return [_find_bright_regions(image) for image in images]


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    predict_many.add_arguments(parser)
    given = ["--config-file", "none.yaml", "--engine", "local", *map(str, words)]
    return predict_many.run(parser.parse_args(given))


def rows(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "shards").to_pylist()  # as people do, and other programs


def files_of(folder: Path) -> dict[str, bytes]:
    """Returns the files of a folder and those in it, but for hidden ones."""
    files = (path for path in folder.rglob("[!.]*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for index in range(9):
        _save(folder / f"{index}.png", _scene(150 + 10 * index)[: 40 + index % 3])
    _save(folder / "z" / "9.png", _scene(0))
    (folder / "4.png").write_bytes(b"\x89PNG broken")
    return folder


def test_results_are_those_of_the_demo(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Model(monkeypatch)
    words = ["--input", pictures, "--recursive", "--confidence-threshold", "0.65"]
    words += ["--save", "coco-rle", "coco", "coco-results", "--output"]
    assert run(*words, tmp_path / "many", "--shard-size", "4") == 1
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    given = ["--config-file", "none.yaml", *map(str, words), str(tmp_path / "demo")]
    assert demo.run(parser.parse_args(given)) == 1
    for name in ("coco_rle.json", "coco.json", "coco_results.json"):
        expected = json.loads((tmp_path / "demo" / name).read_text())
        assert json.loads((tmp_path / "many" / name).read_text()) == expected
    found = rows(tmp_path / "many")
    assert [row["image_id"] for row in found] == [*range(1, 11)]
    assert [len(row["labels"]) for row in found if not row["error"]] == [0, 0, *[1] * 6, 0]
    # The file of a broken picture is a row, too.
    names = [str(path) for path in [*sorted(pictures.glob("*.png")), pictures / "z" / "9.png"]]
    assert [row["file_name"] for row in found] == names
    assert [bool(row["error"]) for row in found] == [name == names[4] for name in names]
    assert names[4] in found[4]["error"]
    mask = mask_util.decode(found[8]["masks"][0])
    assert np.array_equal(mask.astype(bool), _scene(230)[:42, :, 0] > 100)
    assert len(list((tmp_path / "many").glob("shards/*.parquet"))) == 3


def test_a_run_that_was_interrupted_goes_on(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    model = Model(monkeypatch)
    monkeypatch.setattr(run_module, "_CHUNK", 2)
    words = ["--input", pictures, "--save", "coco-rle", "--shard-size", "2", "--output"]
    assert run(*words, tmp_path / "whole") == 1
    model.seen, model.limit = [], 5
    assert run(*words, tmp_path / "out") == run_module.INTERRUPTED
    done = rows(tmp_path / "out")
    assert 0 < len(done) < 9
    assert not (tmp_path / "out" / "coco_rle.json").exists()
    model.seen, model.limit = [], 10**9
    assert run(*words, tmp_path / "out") == 1
    with_result = [row for row in done if not row["error"]]
    assert len(model.seen) == 8 - len(with_result)  # no picture of a finished shard
    expected = files_of(tmp_path / "whole")
    assert len(expected) == 3 + 5
    assert files_of(tmp_path / "out") == expected
    # A third start has nothing to do, and says what is wrong nevertheless.
    model.seen = []
    caplog.clear()
    assert run(*words, tmp_path / "out") == 1
    assert model.seen == []
    assert "no result: " in caplog.text
    model.key = "another"
    with pytest.raises(ConfigError, match="the model has changed"):
        run(*words, tmp_path / "out")


def test_errors_are_tried_again_when_asked(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    model = Model(monkeypatch)
    _save(pictures / "5.png", np.zeros((99, 20, 3), np.uint8))  # more than the memory has room for
    words = ["--input", pictures, "--output", tmp_path / "out", "--shard-size", "3"]
    assert run(*words) == 1
    assert "7 of 9 pictures predicted" in capsys.readouterr().out
    failed = {Path(row["file_name"]).name: row for row in rows(tmp_path / "out") if row["error"]}
    assert sorted(failed) == ["4.png", "5.png"]
    assert (failed["5.png"]["error"], failed["5.png"]["height"]) == ("too large", 99)
    _save(pictures / "4.png", _scene())
    _save(pictures / "5.png", _scene())
    model.seen = []
    assert run(*words, "--retry-errors") == 0
    assert len(model.seen) == 2
    assert [row["error"] for row in rows(tmp_path / "out")] == [None] * 9


def test_batches_are_of_one_padded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(monkeypatch)
    batches: list[list[tuple[int, ...]]] = []

    def predict(images: list[np.ndarray]) -> list[Predictions]:
        batches.append([image.shape[:2] for image in images])
        return model.predict(images)

    source = Source(predict, METADATA, Reading())
    monkeypatch.setattr(worker_module, "open_model", lambda *_: source)
    for index, size in enumerate([(40, 64), (64, 40), (33, 64), (64, 64), (48, 60), (64, 39)]):
        _save(tmp_path / "in" / f"{index}.png", np.zeros((*size, 3), np.uint8))
    words = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--batch", "3"]
    assert run(*words) == 0
    # All of them are padded to 64 by 64: the order of input, three at once.
    assert batches == [[(40, 64), (64, 40), (33, 64)], [(64, 64), (48, 60), (64, 39)]]
    batches.clear()
    edges = Description(METADATA, Reading(), "one", (32, 80))
    monkeypatch.setattr(run_module, "describe_model", lambda _: edges)
    assert run(*words[:2], "--output", tmp_path / "resized", "--batch", "3") == 0
    # To a short edge of 32: 32 by 51, 62 and 40; 51 and 53 by 32; and the square.
    assert batches == [[(64, 64)], [(40, 64), (33, 64), (48, 60)], [(64, 40), (64, 39)]]


def test_a_semantic_model(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(monkeypatch, Metadata(stuff_classes=["dark", "bright"]))
    model.semantic = True
    words = ["--input", pictures, "--output"]
    with pytest.raises(ConfigError, match="--save coco needs instances"):
        run(*words, tmp_path / "refused", "--save", "coco")
    assert run(*words, tmp_path / "out") == 1
    found = rows(tmp_path / "out")
    assert [row["label_map"] is None for row in found] == [index == 4 for index in range(9)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch", "0"], "--batch is 0"),
        (["--shard-size", "0"], "--shard-size is 0"),
        (["--workers", "-1"], "--workers is -1"),
        (["--workers", "2"], "--workers is for --engine ray"),
        (["--min-size", "-1"], "--min-size is -1"),
        (["--tile", "64", "64"], "TEST.TILE.OVERLAP is 64"),
        (["--confidence-threshold", "5"], "--confidence-threshold is 5"),
        (["--classes", "cat"], "classes has 'cat'"),
        (["--max-download", "0"], "--max-download is 0"),
        (["--exported-engine", "openvino"], "--exported-engine is for exported models"),
    ],
)
def test_flags_that_can_not_work_are_refused_before_anything_is_read(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list, message: str
) -> None:
    model = Model(monkeypatch)
    with pytest.raises(SoloFamilyError, match=message):
        run("--input", pictures, "--output", tmp_path / "out", *words)
    assert model.seen == []


def test_pages_are_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Model(monkeypatch)
    pages = [Image.fromarray(_scene(value)) for value in (150, 200)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    words = ["--input", tmp_path / "x.tif", "--output", tmp_path / "out", "--save", "coco-rle"]
    assert run(*words, "--confidence-threshold", "0.7") == 0
    found = rows(tmp_path / "out")
    assert [(row["page"], len(row["scores"])) for row in found] == [(1, 0), (2, 1)]
    images = json.loads((tmp_path / "out" / "coco_rle.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["x_p001.tif", "x_p002.tif"]  # as demo's


def test_what_is_no_picture_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Model(monkeypatch)
    names = [b"caf\xe9.png", b"clip.mp4", b"page.pdf", b"a\nb.png"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"%PDF-1.7")
    given = [os.fsdecode(name) for name in names]
    monkeypatch.chdir(tmp_path)
    assert run("--input", *given, "--output", "out") == 1
    found = rows(tmp_path / "out")
    assert [row["file_name"] for row in found] == ["caf\\udce9.png", *given[1:]]
    assert all(row["error"] for row in found)
    assert run("--input", *given, "--output", "out") == 1  # which is the same input


def test_the_list_of_the_pictures_is_an_input_whatever_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Model(monkeypatch)
    names = ["#1.png", "@2.png", "~3.png", " 4.png", "-5.png", "6[1].png", "%7é.png"]
    for name in names:
        _save(tmp_path / name, _scene())
    monkeypatch.chdir(tmp_path)
    assert run("--input", ".", "--output", "out") == 0
    assert [row["file_name"] for row in rows(tmp_path / "out")] == sorted(names)
    assert run("--input", "@out/inputs.txt", "--output", "out") == 0  # else refused


def test_a_run_is_described_by_its_folder(tmp_path: Path) -> None:
    opts = ["TEST.CONFIDENCE_THRESHOLD", 0.3]
    write_cfg(tmp_path / "config.yaml", tiny_cfg(opts=opts))
    torch.save({"model": {"x": torch.zeros(1)}}, tmp_path / "model_final.pth")
    flags = {"exported": None, "config_file": str(tmp_path), "opts": []}
    described = describe_model(argparse.Namespace(**flags))
    assert described.threshold == 0.3
    weights = ["MODEL.WEIGHTS", str(tmp_path / "model_final.pth")]
    flags |= {"config_file": str(tmp_path / "config.yaml"), "opts": weights}
    assert describe_model(argparse.Namespace(**flags)).key == described.key


def test_nothing_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    Model(monkeypatch)
    with caplog.at_level(logging.ERROR):
        assert run("--input", tmp_path / "none", "--output", tmp_path / "out") == 2
    assert "no file matches" in caplog.text


def test_random_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("MODEL: {DEVICE: cpu, META_ARCHITECTURE: SOLOv2}\n")
    with pytest.raises(ConfigError, match="each worker would have other random"):
        run("--config-file", tmp_path / "c.yaml", "--input", "x", "--output", tmp_path / "out")


def test_the_models_own_threshold_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Model(monkeypatch)
    description = Description(METADATA, Reading(), "one", threshold=0.7)
    monkeypatch.setattr(run_module, "describe_model", lambda _: description)
    for index, value in enumerate((150, 200)):  # scores of 0.59 and 0.78
        _save(tmp_path / "in" / f"{index}.png", _scene(value))
    words = ["--input", tmp_path / "in", "--output"]
    assert run(*words, tmp_path / "own") == 0
    assert [len(row["scores"]) for row in rows(tmp_path / "own")] == [0, 1]
    assert run(*words, tmp_path / "given", "--confidence-threshold", "0.5") == 0
    assert [len(row["scores"]) for row in rows(tmp_path / "given")] == [1, 1]
    with pytest.raises(ConfigError, match="--confidence-threshold"):  # another than it began with
        run(*words, tmp_path / "own", "--confidence-threshold", "0.5")


def test_the_threshold_of_a_run_is_described(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "MODEL: {META_ARCHITECTURE: SOLOv2, DEVICE: cpu, WEIGHTS: w.pth}\n"
        "TEST: {BEST_CONFIDENCE: 0.12}\n"
    )
    flags = {"exported": None, "config_file": str(tmp_path / "c.yaml"), "opts": []}
    assert describe_model(argparse.Namespace(**flags)).threshold == 0.12


def test_the_model_is_described_by_what_changes_its_answers(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"1")
    (tmp_path / "c.yaml").write_text("MODEL: {META_ARCHITECTURE: SOLOv2, DEVICE: cpu}\n")

    def key(*opts: str) -> str:
        opts = ("MODEL.WEIGHTS", str(tmp_path / "w.pth"), *opts)
        flags = {"exported": None, "config_file": str(tmp_path / "c.yaml"), "opts": opts}
        return describe_model(argparse.Namespace(**flags)).key

    first = key()
    assert key("OUTPUT_DIR", "elsewhere") == first
    assert key("MODEL.DEVICE", "meta") == first
    assert key("INPUT.MIN_SIZE_TEST", "640") != first
    (tmp_path / "w.pth").write_bytes(b"22")
    assert key() != first


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_many, "find_spec", lambda name: None if name == "ray" else 1)
    with pytest.raises(SoloFamilyError, match=r"--engine ray needs ray: pip .* --engine local"):
        run("--input", "x", "--output", "y", "--engine", "ray")
    with pytest.raises(ConfigError, match=r"none\.yaml"):  # the local engine goes on without it
        run("--input", "x", "--output", "y")
