"""Runs of a class-agnostic method, on datasets of several classes."""

import argparse
import pickle
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode

from solo_family.cli import demo
from solo_family.data.formats.voc import register_voc_instances
from solo_family.engine.arguments import argument_parser
from solo_family.engine.main import run

from ..coco_folder import write_cfg
from ..conftest import tiny_cfg
from ..data.formats.test_voc import write_voc

NAMES = ["circle", "rectangle", "triangle", "star", "ring"]


def write_config(path: Path, train: str, test: str, *opts: Any, method: str = "InstanceFCN") -> str:
    cfg = tiny_cfg(
        method,
        num_classes=80 if method == "InstanceFCN" else 0,
        opts=[
            *("DATASETS.TRAIN", (train,), "DATASETS.TEST", (test,)),
            *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64),
            *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 2, "SOLVER.STEPS", ()),
            *("DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", str(path.parent / "run"), *opts),
        ],
    )
    write_cfg(path, cfg)
    return str(path)


def trained(config: str, *opts: str) -> dict[str, dict[str, float]]:
    args: argparse.Namespace = argument_parser().parse_args(["--config-file", config, *opts])
    return run(args)


def shapes_names(shapes: Path) -> list[str]:
    splits = ("train", "val")
    return [f"coco_json:{shapes}/annotations/{split}.json:{shapes}/{split}" for split in splits]


@pytest.mark.slow
def test_a_dataset_of_several_classes_is_no_error(shapes: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml", *shapes_names(shapes), "VIS_PERIOD", 1)
    results = trained(config)
    assert set(results) == {"proposals"}
    assert 0 <= results["proposals"]["AR@100"] <= 100
    saved = CfgNode.load_cfg((tmp_path / "run" / "config.yaml").read_text())
    assert saved.MODEL.CLASS_NAMES == ["object"]
    assert saved.MODEL.INSTANCE_FCN.NUM_CLASSES == 1
    folder = tmp_path / "run" / "inference"
    proposals = pickle.loads((folder / "proposals.pkl").read_bytes())
    assert sorted(proposals["ids"]) == list(range(1, 9))
    assert (folder / "proposal_recall.json").is_file()

    # The demo names no class of the dataset.
    weights = ["MODEL.WEIGHTS", str(tmp_path / "run" / "model_final.pth")]
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    words = ["--config-file", config, "--input", "none.jpg", "--opts", *weights]
    source, _ = demo._open_model(parser.parse_args(words))
    assert source.metadata.thing_classes == ["object"]


def test_with_a_classifier_ap_is_measured_too(shapes: Path, tmp_path: Path) -> None:
    opts = ["MODEL.INSTANCE_FCN.CLASSIFY", True, "MODEL.INSTANCE_FCN.NUM_CLASSES", 0]
    results = trained(write_config(tmp_path / "tiny.yaml", *shapes_names(shapes), *opts))
    assert set(results) == {"proposals", "bbox", "segm"}
    saved = CfgNode.load_cfg((tmp_path / "run" / "config.yaml").read_text())
    assert saved.MODEL.CLASS_NAMES == NAMES


def test_recall_of_another_methods_masks(shapes: Path, tmp_path: Path) -> None:
    opts = ["TEST.PROPOSAL_RECALL", True, "MODEL.SOLOV2.PRIOR_PROB", 0.5]
    config = write_config(tmp_path / "tiny.yaml", *shapes_names(shapes), *opts, method="SOLOv2")
    assert set(trained(config)) == {"proposals", "bbox", "segm"}


def test_voc(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2012")
    names = [f"voc_{split}_{tmp_path.name}" for split in ("train", "val")]
    for name, split in zip(names, ("trainval", "val")):
        register_voc_instances(name, str(root), split)
    config = write_config(tmp_path / "tiny.yaml", *names, "MODEL.INSTANCE_FCN.CLASSIFY", True)
    assert set(trained(config, "MODEL.INSTANCE_FCN.NUM_CLASSES", "20")) == {
        *("proposals", "bbox", "segm")
    }
