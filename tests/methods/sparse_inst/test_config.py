"""Keys of SparseInst: the official names and defaults; users' mistakes."""

from typing import Any

import pytest
from detectron2.config import CfgNode

from solo_family.config import check_config, get_cfg, setup_cfg
from solo_family.errors import ConfigError
from solo_family.model_zoo import get_config_file

from ...conftest import ROOT, tiny_cfg

# sparseinst/config.py.
OFFICIAL_DEFAULTS = {
    "SPARSE_INST.CLS_THRESHOLD": 0.005,
    "SPARSE_INST.MASK_THRESHOLD": 0.45,
    "SPARSE_INST.MAX_DETECTIONS": 0,  # of 100, by way of TEST.DETECTIONS_PER_IMAGE
    "SPARSE_INST.ENCODER.NAME": "FPNPPMEncoder",
    "SPARSE_INST.ENCODER.NORM": "",
    "SPARSE_INST.ENCODER.IN_FEATURES": ["res3", "res4", "res5"],
    "SPARSE_INST.ENCODER.NUM_CHANNELS": 256,
    "SPARSE_INST.DECODER.NAME": "BaseIAMDecoder",
    "SPARSE_INST.DECODER.NUM_MASKS": 100,
    "SPARSE_INST.DECODER.NUM_CLASSES": 80,
    "SPARSE_INST.DECODER.KERNEL_DIM": 128,
    "SPARSE_INST.DECODER.SCALE_FACTOR": 2.0,
    "SPARSE_INST.DECODER.OUTPUT_IAM": False,
    "SPARSE_INST.DECODER.GROUPS": 4,
    "SPARSE_INST.DECODER.INST.DIM": 256,
    "SPARSE_INST.DECODER.INST.CONVS": 4,
    "SPARSE_INST.DECODER.MASK.DIM": 256,
    "SPARSE_INST.DECODER.MASK.CONVS": 4,
    "SPARSE_INST.LOSS.NAME": "SparseInstCriterion",
    "SPARSE_INST.LOSS.ITEMS": ("labels", "masks"),
    "SPARSE_INST.LOSS.CLASS_WEIGHT": 2.0,
    "SPARSE_INST.LOSS.MASK_PIXEL_WEIGHT": 5.0,
    "SPARSE_INST.LOSS.MASK_DICE_WEIGHT": 2.0,
    "SPARSE_INST.LOSS.OBJECTNESS_WEIGHT": 1.0,
    "SPARSE_INST.MATCHER.NAME": "SparseInstMatcher",
    "SPARSE_INST.MATCHER.ALPHA": 0.8,
    "SPARSE_INST.MATCHER.BETA": 0.2,
    "SPARSE_INST.DATASET_MAPPER": "SparseInstDatasetMapper",
    "PVT.NAME": "b1",
    "PVT.OUT_FEATURES": ["p2", "p3", "p4"],
    "PVT.LINEAR": False,
    "CSPNET.NAME": "darknet53",
    "CSPNET.NORM": "",
    "CSPNET.OUT_FEATURES": ["csp1", "csp2", "csp3", "csp4"],
}


def value_of(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def test_defaults_are_the_official_ones() -> None:
    cfg = get_cfg().MODEL
    assert {key: value_of(cfg, key) for key in OFFICIAL_DEFAULTS} == OFFICIAL_DEFAULTS


def test_backbones_of_timm_have_its_weights_and_every_run_a_folder() -> None:
    for path in (ROOT / "configs" / "SparseInst").glob("sparse_inst_*.yaml"):
        cfg = setup_cfg(str(path))
        from_timm = any(part in path.stem for part in ("vd", "csp", "pvt"))
        assert (cfg.MODEL.TIMM.WEIGHTS == "pretrained") == from_timm, path
        assert f"output/{path.stem}" == cfg.OUTPUT_DIR


@pytest.mark.parametrize(
    ("size", "names"),
    [
        (640, ["r50_base", "r50vd_base", "cspdarknet53_giam", "r101_giam", "r101_dcn_giam"]),
        (640, ["pvt_b1_giam", "pvt_b2_li_giam"]),
        (608, ["r50_giam", "r50_giam_soft", "r50_giam_aug", "r50_dcn_giam_aug"]),
        (608, ["r50vd_giam_aug", "r50vd_dcn_giam_aug"]),
    ],
)
def test_test_sizes_are_those_of_the_published_numbers(size: int, names: list[str]) -> None:
    for name in names:
        cfg = setup_cfg(get_config_file(f"SparseInst/sparse_inst_{name}.yaml"))
        assert size == cfg.INPUT.MIN_SIZE_TEST, name


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("ENCODER.NAME", "FPN", ["'InstanceContextEncoder'"]),
        ("ENCODER.NORM", "GN", ["ENCODER.NORM is 'GN'"]),
        ("DECODER.NAME", "IAMDecoder", ["'GroupIAMDecoder'", "'CrossAttentionDecoder'"]),
        ("DECODER.IAM_KERNEL_SIZE", 5, ["1, 3"]),
        ("DECODER.IAM_ACTIVATION", "relu", ["'sigmoid'", "'softmax'"]),
        ("DECODER.GROUPS", 3, ["GROUPS is 3", "INST.DIM, 16"]),
        ("DECODER.GROUPS", 0, ["GROUPS is 0", "at least 1"]),
        ("DECODER.NUM_MASKS", 0, ["NUM_MASKS is 0"]),
        ("DECODER.MASK.CONVS", -1, ["MASK.CONVS is -1", "at least 0"]),
        ("ENCODER.NUM_CHANNELS", 2, ["NUM_CHANNELS is 2", "at least 4"]),
        ("CLS_THRESHOLD", 30.0, ["CLS_THRESHOLD is 30.0", "a number from 0 to 1"]),
        ("MASK_THRESHOLD", -0.5, ["MASK_THRESHOLD is -0.5", "a number from 0 to 1"]),
        ("OVERLAP_THRESHOLD", 50.0, ["OVERLAP_THRESHOLD is 50.0", "a number from 0 to 1"]),
        ("LOSS.NAME", "Criterion", ["'SparseInstCriterion'"]),
        ("LOSS.ITEMS", ("labels", "boxes"), ["LOSS.ITEMS", "boxes", "labels, masks"]),
        ("LOSS.ITEMS", (), ["LOSS.ITEMS", "labels, masks"]),
        ("MATCHER.NAME", "Hungarian", ["'SparseInstMatcher'", "'SparseInstMatcherV1'"]),
        ("DATASET_MAPPER", "DatasetMapper", ["'SparseInstDatasetMapper'"]),
        ("NMS_TYPE", "mask", ["NMS_TYPE is 'mask'", "'matrix'"]),
        ("NMS_KERNEL", "cubic", ["'gaussian'", "'linear'"]),
    ],
)
def test_mistakes_name_key_value_and_what_is_allowed(
    key: str, value: Any, expected: list[str]
) -> None:
    cfg = tiny_cfg("SparseInst", opts=[f"MODEL.SPARSE_INST.{key}", value])
    with pytest.raises(ConfigError) as error:
        check_config(cfg)
    assert f"MODEL.SPARSE_INST.{key}" in str(error.value)
    for part in expected:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ENCODER.IN_FEATURES", ["res3", "p4"], r"ENCODER\.IN_FEATURES has p4.*res3, res4, res5"),
        ("ENCODER.IN_FEATURES", ["res5", "res4"], r"strides \[32, 16\].*finest first"),
        ("DECODER.SCALE_FACTOR", 0.0, r"SCALE_FACTOR is 0\.0.*stride inf; 2, 4, 8"),
        ("DECODER.SCALE_FACTOR", 8.0, r"SCALE_FACTOR is 8\.0.*stride 1; 2, 4, 8"),
    ],
)
def test_features_that_do_not_fit_are_errors(key: str, value: Any, message: str) -> None:
    from detectron2.modeling import build_model

    with pytest.raises(ConfigError, match=message):
        build_model(tiny_cfg("SparseInst", opts=[f"MODEL.SPARSE_INST.{key}", value]))
