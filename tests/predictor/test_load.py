"""The model that the tools run: what `MODEL.INFERENCE` asks for, or as it was trained."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from torch import nn

from solo_family.engine import main
from solo_family.modeling.inference import inference_model
from solo_family.predictor.load import class_metadata, load_predictor
from solo_family.saving.picture import Classes

from ..conftest import picture, tiny_cfg, tiny_model
from ..data.segments import write_panoptic


def config(folder: Path, *opts: Any) -> CfgNode:
    weights = folder / "weights.pth"
    torch.save({"model": tiny_model("SparseInst").state_dict()}, weights)
    words = ["MODEL.WEIGHTS", str(weights), "OUTPUT_DIR", str(folder), *opts]
    return tiny_cfg("SparseInst", opts=words)


def test_tools_run_the_precision_that_is_asked_for(tmp_path: Path) -> None:
    cfg = config(tmp_path, "MODEL.INFERENCE.PRECISION", "bfloat16")
    model = load_predictor(cfg).model
    assert model.weight_dtype == torch.bfloat16
    with torch.no_grad():
        assert model([picture()])[0]["instances"].scores.dtype == torch.float32


def test_by_default_and_for_an_export_weights_are_as_trained(tmp_path: Path) -> None:
    model = load_predictor(config(tmp_path)).model
    assert model.weight_dtype == torch.float32
    assert model.graphs.enabled
    cfg = config(tmp_path, "MODEL.INFERENCE.PRECISION", "bfloat16")
    model = load_predictor(cfg, as_trained=True).model
    assert model.weight_dtype == torch.float32
    assert not model.graphs.enabled


def test_an_evaluation_runs_the_precision_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[Any] = []
    monkeypatch.setattr(main.Trainer, "test", lambda cfg, model: tested.append(model) or {})
    cfg = config(tmp_path, "MODEL.INFERENCE.PRECISION", "float16")
    main.evaluate(cfg, argparse.Namespace(resume=False, trainer=main.Trainer))
    assert tested[0].weight_dtype == torch.float16
    assert not tested[0].training
    assert tested[0].graphs.enabled


def test_a_model_in_training_records_no_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no memory for them, and the weights change."""
    tested: list[Any] = []
    monkeypatch.setattr(main.Trainer, "build_train_loader", staticmethod(list))
    trainer = main.Trainer(config(tmp_path))
    monkeypatch.setattr(trainer, "test", lambda cfg, model: tested.append(model) or {})
    trainer.cfg.defrost()
    trainer.cfg.DATASETS.TEST = ("one",)
    trainer.evaluate()
    assert not tested[0].graphs.enabled


def test_models_of_other_packages_stay_as_they_are() -> None:
    model = nn.Linear(2, 2)
    assert inference_model(model, tiny_cfg("SparseInst")) is model


@pytest.mark.parametrize("stored", [False, True])
def test_what_is_stuff_is_the_datasets_unless_training_has_stored_it(
    tmp_path: Path, stored: bool
) -> None:
    """Files of results say it of every class, also of those that no picture has."""
    name, _, _ = write_panoptic(tmp_path)
    opts = ["DATASETS.TRAIN", (name,), "DATASETS.TEST", (name,)]
    cfg = tiny_cfg("MaskFormer", opts=[*opts, *(["MODEL.STUFF_IDS", [0]] if stored else [])])
    classes = Classes(class_metadata(cfg))
    assert classes.names == ["cat", "dog", "sky"]
    is_thing = [classes.is_thing(label) for label in range(3)]
    assert is_thing == ([False, True, True] if stored else [True, True, False])


def test_classes_that_are_stored_need_no_dataset() -> None:
    keys = ["MODEL.CLASS_NAMES", ["cat", "sky"], "DATASETS.TRAIN", ("panoptic:no:no:no.json",)]
    classes = Classes(class_metadata(tiny_cfg("SOLOv2", opts=keys)))
    assert [classes.is_thing(label) for label in range(2)] == [True, True]
