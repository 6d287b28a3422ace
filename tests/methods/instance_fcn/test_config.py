"""InstanceFCN's keys, published constants and mistakes."""

from typing import Any

import pytest
from detectron2.modeling import build_model

from solo_family.config import get_cfg, setup_cfg
from solo_family.errors import ConfigError
from solo_family.model_zoo import get_config_file

from ...config.test_config import assert_refused, leaves
from ...conftest import ROOT, tiny_cfg

PREFIX = "MODEL.INSTANCE_FCN"
DEFAULTS = {
    "IN_FEATURE": "conv5",
    "NUM_POSITIONS": 5,
    "WINDOW_SIZE": 21,
    "CHANNELS": 512,
    "WINDOWS_PER_IMAGE": 256,
    "POSITIVE_FRACTION": 0.5,
    "SHORT_OF_POSITIVES": "negatives",
    "OBJECT_SIZE": 128,
    "POSITIVE_SHIFT": 16,
    "POSITIVE_OCTAVES": 0.25,
    "NEGATIVE_SHIFT": 32,
    "NEGATIVE_OCTAVES": 1.0,
    "LOSS.OBJECTNESS_WEIGHT": 1.0,
    "LOSS.MASK_WEIGHT": 1.0,
    "LOSS.NEGATIVE_MASKS": False,
    "LOSS.CLASS_WEIGHT": 1.0,
    "TEST_SCALES": (119, 178, 267, 400, 600, 900),
    "SCORE": "objectness",
    "MASK_THR": 0.5,
    "NMS_PRE": 0,
    "NMS_TYPE": "box",
    "NMS_THR": 0.8,
    "NMS_KERNEL": "gaussian",
    "NMS_SIGMA": 2.0,
    "MAX_PER_IMG": 1000,
    "CLASSIFY": False,
    "NUM_CLASSES": 80,
}
PUBLISHED = {
    "INPUT.MIN_SIZE_TRAIN": (119, 178, 267, 400, 600, 900),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "choice",
    "INPUT.FORMAT": "RGB",
    "SOLVER.IMS_PER_BATCH": 8,
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.GAMMA": 0.1,
    "SOLVER.WEIGHT_DECAY": 0.0005,
    "SOLVER.OPTIMIZER": "",
    "SOLVER.STEPS": (32000,),
    "SOLVER.MAX_ITER": 40000,
    "MODEL.BACKBONE.NAME": "build_vgg_atrous_backbone",
}
LEAVES = [
    f"instance_fcn_{backbone}_{dataset}_k{k}"
    for backbone in ("VGG16", "R50")
    for dataset in ("VOC", "COCO")
    for k in (3, 5, 7)
]


def test_defaults_are_the_papers() -> None:
    assert leaves(get_cfg().MODEL.INSTANCE_FCN) == DEFAULTS


def test_scales_are_600_by_powers_of_one_and_a_half() -> None:
    scales = tuple(round(600 * 1.5**power) for power in range(-4, 2))
    assert scales == DEFAULTS["TEST_SCALES"] == PUBLISHED["INPUT.MIN_SIZE_TRAIN"]


def test_published_constants() -> None:
    actual = leaves(setup_cfg(get_config_file("InstanceFCN/instance_fcn_VGG16_VOC_k5.yaml")))
    assert {key: actual[key] for key in PUBLISHED} == PUBLISHED
    assert actual["DATASETS.TRAIN"] == ("voc_sbd_instance_train",)


def test_there_is_a_config_for_every_backbone_dataset_and_k() -> None:
    folder = ROOT / "configs" / "InstanceFCN"
    assert {p.stem for p in folder.glob("*.yaml") if p.stem[0] != "B"} == set(LEAVES)


@pytest.mark.parametrize("name", LEAVES)
def test_configs_are_what_their_names_say(name: str) -> None:
    cfg = setup_cfg(get_config_file(f"InstanceFCN/{name}.yaml"))
    _, _, backbone, dataset, k = name.split("_")
    assert int(k[1]) == cfg.MODEL.INSTANCE_FCN.NUM_POSITIONS
    assert ("vgg" in cfg.MODEL.BACKBONE.NAME) == (backbone == "VGG16")
    assert all(("coco" in used) == (dataset == "COCO") for used in cfg.DATASETS.TRAIN)
    assert f"output/{name}" == cfg.OUTPUT_DIR


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("SCORE", "sum", ["'objectness'", "'product'"]),
        ("NMS_TYPE", "mask", ["'box'", "'matrix'"]),
        ("NMS_KERNEL", "flat", ["'gaussian'", "'linear'"]),
        ("SHORT_OF_POSITIVES", "none", ["'negatives'", "'repeat'", "'fewer'"]),
        ("NUM_POSITIONS", 12, ["from 1 to", "WINDOW_SIZE, which is 11"]),
        ("NUM_POSITIONS", 0, ["from 1 to"]),
        ("CHANNELS", 0, ["at least 1 is needed"]),
        ("NMS_THR", 80.0, ["a number from 0 to 1 is needed"]),
        ("POSITIVE_FRACTION", -0.5, ["a number from 0 to 1 is needed"]),
        ("POSITIVE_SHIFT", 40, ["POSITIVE_SHIFT is 40", "NEGATIVE_SHIFT, 32"]),
        ("POSITIVE_OCTAVES", 1.5, ["POSITIVE_OCTAVES is 1.5", "NEGATIVE_OCTAVES, 1.0"]),
    ],
)
def test_values_that_can_not_work(key: str, value: Any, words: list[str]) -> None:
    cfg = tiny_cfg("InstanceFCN", opts=[f"{PREFIX}.{key}", value])
    assert_refused(cfg, f"{PREFIX}.{key} is {value!r}", *words)


def test_matrix_nms_needs_a_limit() -> None:
    cfg = tiny_cfg("InstanceFCN", opts=[f"{PREFIX}.NMS_TYPE", "matrix"])
    assert_refused(cfg, f"{PREFIX}.NMS_PRE is 0", "matrix", "2000")


def test_a_feature_that_the_backbone_does_not_give() -> None:
    cfg = tiny_cfg("InstanceFCN", opts=[f"{PREFIX}.IN_FEATURE", "conv5"])
    with pytest.raises(ConfigError, match=r"IN_FEATURE has conv5.*It provides p2, p3"):
        build_model(cfg)
