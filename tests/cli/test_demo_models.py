"""The ways to name a model for the verbs: a config, a run's folder, an exported folder."""

import argparse
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata

from solo_family.__main__ import main
from solo_family.cli import demo, export, visualize_results
from solo_family.cli.benchmark import benchmark
from solo_family.data.loading.images import Reading
from solo_family.errors import DataError
from solo_family.predictor.sources import Source

from ..coco_folder import write_cfg
from ..conftest import tiny_cfg

SOURCE = Source(lambda images: [], Metadata(), Reading())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is opened: the weights of a config, or an exported folder."""
    given: list[object] = []

    def from_config(cfg: CfgNode) -> Source:
        given.append(cfg.MODEL.WEIGHTS)
        return SOURCE

    monkeypatch.setattr(demo, "from_config", from_config)
    monkeypatch.setattr(demo, "from_exported", lambda *words: given.append(words) or SOURCE)
    return given


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_cfg(tmp_path / "config.yaml", tiny_cfg())
    for name in ("model_0000009.pth", "model_final.pth", "other.pth"):
        torch.save({"model": {"x": torch.zeros(1)}}, tmp_path / name)
    return tmp_path


def _open(*words: object) -> None:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    demo._open_model(parser.parse_args([*map(str, words)]))


def test_the_folder_of_a_run_is_its_config_and_its_weights(run: Path, opened: list[object]) -> None:
    _open("--config-file", run, "--input", "x.png")
    assert opened == [str(run / "model_final.pth")]


def test_weights_that_are_named_are_taken(run: Path, opened: list[object]) -> None:
    other = str(run / "other.pth")
    _open("--config-file", run, "--input", "x.png", "--opts", "MODEL.WEIGHTS", other)
    _open(
        "--config-file", run / "config.yaml", "--input", "x.png", "--opts", "MODEL.WEIGHTS", other
    )
    assert opened == [other, other]


def test_an_exported_folder_is_known_by_its_content(tmp_path: Path, opened: list[object]) -> None:
    (tmp_path / "model.json").write_text("{}")
    _open("--config-file", tmp_path, "--input", "x.png", "--engine", "openvino")
    _open("--exported", tmp_path, "--web")
    assert opened == [(tmp_path, "openvino"), (tmp_path, None)]


def test_a_folder_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no config.yaml or model.json in it"):
        _open("--config-file", tmp_path, "--input", "x.png")


OTHERS = {
    "export": (export, ["--output", "exported"]),
    "visualize-results": (visualize_results, ["--activation-maps", "--input", __file__]),
    "benchmark": (benchmark, []),
}


@pytest.mark.parametrize("verb", OTHERS)
def test_the_other_verbs_of_a_trained_model_take_the_folder_of_a_run(
    verb: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cfg(run / "config.yaml", tiny_cfg("SparseInst"))
    module, words = OTHERS[verb]
    opened = []

    def load(cfg: CfgNode, **_: bool) -> None:
        opened.append(cfg.MODEL.WEIGHTS)
        raise DataError("far enough")

    monkeypatch.setattr(module, "load_predictor", load)
    assert main([verb, "--config-file", str(run), *words]) == 2
    assert opened == [str(run / "model_final.pth")]


def test_a_run_without_checkpoints_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cfg(tmp_path / "config.yaml", tiny_cfg())
    assert main(["analyze", "--config-file", str(tmp_path), "--size", "64", "64"]) == 0
    assert "backbone" in capsys.readouterr().out


def test_an_exported_folder_is_no_model_to_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.json").write_text("{}")
    assert main(["export", "--config-file", str(tmp_path), "--output", "exported"]) == 2
    assert "Name the run that it was exported from" in capsys.readouterr().err


def test_a_name_of_the_zoo_is_its_config_and_its_weights(
    opened: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "model_key", lambda *_: "key")  # which would download the weights
    _open("--config-file", "zoo:SOLOv2/solov2_R50_3x.yaml", "--web")
    assert opened == ["zoo:SOLOv2/solov2_R50_3x.yaml"]
