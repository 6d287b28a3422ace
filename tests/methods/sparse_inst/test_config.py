"""Keys of SparseInst: the official names, defaults and files; users' mistakes."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from detectron2.config import CfgNode

from solo_family.config import check_config, get_cfg, setup_cfg
from solo_family.errors import ConfigError
from solo_family.model_zoo import get_config_file

from ...conftest import tiny_cfg

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

# What the official configs set: the base, then what each sets beside or over it.
BASE: dict[str, Any] = {
    "MODEL.META_ARCHITECTURE": "SparseInst",
    "MODEL.WEIGHTS": "detectron2://ImageNetPretrained/torchvision/R-50.pkl",
    "MODEL.PIXEL_MEAN": [123.675, 116.280, 103.530],
    "MODEL.PIXEL_STD": [58.395, 57.120, 57.375],
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
    "MODEL.SPARSE_INST.ENCODER.NAME": "InstanceContextEncoder",
    "MODEL.SPARSE_INST.DECODER.NAME": "GroupIAMDecoder",
    "DATASETS.TRAIN": ("coco_2017_train",),
    "DATASETS.TEST": ("coco_2017_val",),
    "SOLVER.IMS_PER_BATCH": 64,
    "SOLVER.BASE_LR": 0.00005,
    "SOLVER.STEPS": (210000, 250000),
    "SOLVER.MAX_ITER": 270000,
    "SOLVER.WEIGHT_DECAY": 0.05,
    "INPUT.MIN_SIZE_TRAIN": (416, 448, 480, 512, 544, 576, 608, 640),
    "INPUT.MAX_SIZE_TRAIN": 853,
    "INPUT.MIN_SIZE_TEST": 640,
    "INPUT.MAX_SIZE_TEST": 853,
    "INPUT.FORMAT": "RGB",
    "INPUT.MASK_FORMAT": "bitmask",
    "TEST.EVAL_PERIOD": 7330,
    "DATALOADER.NUM_WORKERS": 6,
    "VERSION": 2,
}
CROP = {
    "INPUT.CROP.ENABLED": True,
    "INPUT.CROP.TYPE": "absolute_range",
    "INPUT.CROP.SIZE": [384, 600],
    "INPUT.MASK_FORMAT": "polygon",
}
DCN = {"MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, False, True, True]}
VD = {
    "MODEL.WEIGHTS": "pretrained_models/resnet50d_ra2-464e36ba.pth",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.BACKBONE.NAME": "build_resnet_vd_backbone",
}
CSP = {
    "MODEL.BACKBONE.NAME": "build_cspnet_backbone",
    "MODEL.SPARSE_INST.ENCODER.IN_FEATURES": ["csp2", "csp3", "csp4"],
    "MODEL.CSPNET.OUT_FEATURES": ["csp2", "csp3", "csp4"],
}
PVT = {
    "MODEL.BACKBONE.NAME": "build_pyramid_vision_transformer",
    "MODEL.SPARSE_INST.ENCODER.IN_FEATURES": ["p2", "p3", "p4"],
    "MODEL.PVT.OUT_FEATURES": ["p2", "p3", "p4"],
}
R101 = {"MODEL.WEIGHTS": "pretrained_models/R-101.pkl", "MODEL.RESNETS.DEPTH": 101}
PLAIN = {"MODEL.SPARSE_INST.DECODER.NAME": "BaseIAMDecoder"}
SOFT = {"MODEL.SPARSE_INST.DECODER.NAME": "GroupIAMSoftDecoder"}
OFFICIAL_FILES: dict[str, dict[str, Any]] = {
    "sparse_inst_r50_base": PLAIN,
    "sparse_inst_r50_giam": {},
    "sparse_inst_r50_giam_soft": SOFT,
    "sparse_inst_r50_giam_fp16": {"SOLVER.AMP.ENABLED": True},
    "sparse_inst_r50_giam_aug": CROP,
    "sparse_inst_r50_dcn_giam_aug": {**DCN, **CROP},
    "sparse_inst_r50vd_base": {**VD, **PLAIN},
    "sparse_inst_r50vd_giam": VD,
    "sparse_inst_r50vd_giam_aug": {**VD, **CROP},
    "sparse_inst_r50vd_dcn_giam": {**VD, **DCN},
    "sparse_inst_r50vd_dcn_giam_aug": {**VD, **DCN, **CROP},
    "sparse_inst_r101_giam": R101,
    "sparse_inst_r101_dcn_giam": {**R101, **DCN},
    "sparse_inst_darknet53_giam": {**CSP, "MODEL.WEIGHTS": "", "MODEL.CSPNET.NAME": "darknet53"},
    "sparse_inst_cspdarknet53_giam": {**CSP, **SOFT, "MODEL.CSPNET.NAME": "cspdarknet53"},
    "sparse_inst_pvt_b1_giam": {**PVT, "MODEL.PVT.NAME": "b1"},
    "sparse_inst_pvt_b2_li_giam": {**PVT, "MODEL.PVT.NAME": "b2", "MODEL.PVT.LINEAR": True},
}


def value_of(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def write_yaml(path: Path, values: dict[str, Any], base: str = "") -> Path:
    """Writes dotted keys as nested yaml; tuples are written as detectron2's configs write them."""
    content: dict[str, Any] = {"_BASE_": base} if base else {}
    for key, value in values.items():
        *parents, last = key.split(".")
        node = content
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = str(value) if isinstance(value, tuple) else value
    path.write_text(yaml.safe_dump(content))
    return path


def test_defaults_are_the_official_ones() -> None:
    cfg = get_cfg().MODEL
    assert {key: value_of(cfg, key) for key in OFFICIAL_DEFAULTS} == OFFICIAL_DEFAULTS


@pytest.mark.parametrize("name", OFFICIAL_FILES)
def test_official_files_load_unchanged(name: str, tmp_path: Path) -> None:
    write_yaml(tmp_path / "Base-SparseInst.yaml", BASE)
    leaf = {**OFFICIAL_FILES[name], "OUTPUT_DIR": f"output/{name}"}
    cfg = setup_cfg(str(write_yaml(tmp_path / f"{name}.yaml", leaf, "Base-SparseInst.yaml")))
    for key, value in {**BASE, **leaf}.items():
        assert value_of(cfg, key) == value, key


@pytest.mark.parametrize("name", OFFICIAL_FILES)
def test_our_files_say_what_the_official_ones_say(name: str) -> None:
    cfg = setup_cfg(get_config_file(f"SparseInst/{name}.yaml"))
    ours = {
        # Other places of the same weights; sizes of the published numbers; what training needs not.
        *("MODEL.WEIGHTS", "INPUT.MIN_SIZE_TEST", "INPUT.MASK_FORMAT", "TEST.EVAL_PERIOD"),
        "DATALOADER.NUM_WORKERS",
    }
    for key, value in {**BASE, **OFFICIAL_FILES[name]}.items():
        if key not in ours:
            assert value_of(cfg, key) == value, key
    from_timm = any(part in name for part in ("vd", "csp", "pvt"))
    assert (cfg.MODEL.TIMM.WEIGHTS == "pretrained") == from_timm
    assert f"output/{name}" == cfg.OUTPUT_DIR


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
        ("DECODER.SCALE_FACTOR", 8.0, r"SCALE_FACTOR is 8\.0.*stride 1; 2, 4, 8"),
    ],
)
def test_features_that_do_not_fit_are_errors(key: str, value: Any, message: str) -> None:
    from detectron2.modeling import build_model

    with pytest.raises(ConfigError, match=message):
        build_model(tiny_cfg("SparseInst", opts=[f"MODEL.SPARSE_INST.{key}", value]))
