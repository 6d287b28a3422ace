"""The configuration: AdelaiDet's files and defaults, published constants, users' mistakes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.modeling import build_model

from solo_family.config import add_solo_family_config, check_config, get_cfg, setup_cfg
from solo_family.errors import ConfigError
from solo_family.model_zoo import get_config_file

from ..conftest import ROOT, tiny_cfg

# AdelaiDet's configs/SOLOv2, as published.
ADELAIDET = {
    "Base-SOLOv2.yaml": """
MODEL:
  META_ARCHITECTURE: "SOLOv2"
  MASK_ON: True
  BACKBONE:
    NAME: "build_resnet_fpn_backbone"
  RESNETS:
    OUT_FEATURES: ["res2", "res3", "res4", "res5"]
  FPN:
    IN_FEATURES: ["res2", "res3", "res4", "res5"]
DATASETS:
  TRAIN: ("coco_2017_train",)
  TEST: ("coco_2017_val",)
SOLVER:
  IMS_PER_BATCH: 16
  BASE_LR: 0.01
  WARMUP_FACTOR: 0.01
  WARMUP_ITERS: 1000
  STEPS: (60000, 80000)
  MAX_ITER: 90000
INPUT:
  MIN_SIZE_TRAIN: (640, 672, 704, 736, 768, 800)
  MASK_FORMAT: "bitmask"
VERSION: 2
""",
    "R50_3x.yaml": """
_BASE_: "Base-SOLOv2.yaml"
MODEL:
  WEIGHTS: "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
  RESNETS:
    DEPTH: 50
SOLVER:
  STEPS: (210000, 250000)
  MAX_ITER: 270000
""",
    "R101_3x.yaml": """
_BASE_: "Base-SOLOv2.yaml"
MODEL:
  WEIGHTS: "detectron2://ImageNetPretrained/MSRA/R-101.pkl"
  RESNETS:
    DEPTH: 101
SOLVER:
  STEPS: (210000, 250000)
  MAX_ITER: 270000
""",
}

# adet/config/defaults.py, MODEL.SOLOV2.
ADELAIDET_DEFAULTS = {
    "INSTANCE_IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    "FPN_INSTANCE_STRIDES": [8, 8, 16, 32, 32],
    "FPN_SCALE_RANGES": ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)),
    "SIGMA": 0.2,
    "INSTANCE_IN_CHANNELS": 256,
    "INSTANCE_CHANNELS": 512,
    "NUM_INSTANCE_CONVS": 4,
    "USE_DCN_IN_INSTANCE": False,
    "TYPE_DCN": "DCN",
    "NUM_GRIDS": [40, 36, 24, 16, 12],
    "NUM_CLASSES": 80,
    "NUM_KERNELS": 256,
    "NORM": "GN",
    "USE_COORD_CONV": True,
    "PRIOR_PROB": 0.01,
    "MASK_IN_FEATURES": ["p2", "p3", "p4", "p5"],
    "MASK_IN_CHANNELS": 256,
    "MASK_CHANNELS": 128,
    "NUM_MASKS": 256,
    "NMS_PRE": 500,
    "SCORE_THR": 0.1,
    "UPDATE_THR": 0.05,
    "MASK_THR": 0.5,
    "MAX_PER_IMG": 0,  # of 100, by way of TEST.DETECTIONS_PER_IMAGE
    "NMS_TYPE": "matrix",
    "NMS_KERNEL": "gaussian",
    "NMS_SIGMA": 2,
    "LOSS.FOCAL_USE_SIGMOID": True,
    "LOSS.FOCAL_ALPHA": 0.25,
    "LOSS.FOCAL_GAMMA": 2.0,
    "LOSS.FOCAL_WEIGHT": 1.0,
    "LOSS.DICE_WEIGHT": 3.0,
}


def leaves(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    """Returns a configuration as {dotted key: value}."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, CfgNode):
            flat |= leaves(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def write_adelaidet(folder: Path) -> None:
    for name, content in ADELAIDET.items():
        (folder / name).write_text(content)


def test_our_keys_change_no_default_of_detectron2() -> None:
    theirs, ours = get_detectron2_cfg(), get_detectron2_cfg()
    add_solo_family_config(ours)
    expected, actual = leaves(theirs), leaves(ours)
    assert {key: actual[key] for key in expected} == expected
    assert leaves(get_cfg()) == actual
    assert set(actual) > set(expected)


def test_defaults_are_adelaidets() -> None:
    actual = leaves(get_cfg().MODEL.SOLOV2)
    assert {key: actual[key] for key in ADELAIDET_DEFAULTS} == ADELAIDET_DEFAULTS


@pytest.mark.parametrize(("name", "depth"), [("R50_3x.yaml", 50), ("R101_3x.yaml", 101)])
def test_adelaidets_files_load_unchanged(tmp_path: Path, name: str, depth: int) -> None:
    write_adelaidet(tmp_path)
    cfg = setup_cfg(str(tmp_path / name))
    assert cfg.MODEL.META_ARCHITECTURE == "SOLOv2"
    assert depth == cfg.MODEL.RESNETS.DEPTH
    assert f"MSRA/R-{depth}.pkl" in cfg.MODEL.WEIGHTS
    assert cfg.SOLVER.STEPS == (210000, 250000)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS) == (270000, 1000)
    actual = leaves(cfg.MODEL.SOLOV2)
    assert {key: actual[key] for key in ADELAIDET_DEFAULTS} == ADELAIDET_DEFAULTS


def test_adelaidets_r50_builds(tmp_path: Path) -> None:
    write_adelaidet(tmp_path)
    model = build_model(setup_cfg(str(tmp_path / "R50_3x.yaml")))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    # AdelaiDet's R50 is detectron2's own: frozen norms, stride in the 1x1 convolution.
    assert model.backbone.bottom_up.res3[0].conv1.stride == (2, 2)
    assert shapes["head.category_branch.logits.weight"] == (80, 512, 3, 3)
    assert shapes["head.kernel_predictor.weight"] == (256, 512, 3, 3)
    assert not [name for name, _ in model.named_parameters() if ".stem.conv1.norm" in name]


# What the official configs leave to the official code; their own values are in the golden files.
OF_THE_CODE = {"SOLVER.GAMMA": 0.1, "INPUT.LSJ.ENABLED": False}
NO_DCN = {
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False] * 4,
    "MODEL.SOLOV2.USE_DCN_IN_INSTANCE": False,
    "MODEL.SOLOV2.USE_DCN_IN_MASK": False,
}
DCN = {"MODEL.SOLOV2.DCN_CONVS": "all"}
PUBLISHED: dict[str, dict[str, Any]] = {
    "solov2_R50_1x": NO_DCN,
    "solov2_R50_3x": NO_DCN,
    "solov2_R101_3x": NO_DCN,
    "solov2_R101_DCN_3x": DCN,
    "solov2_X101_DCN_3x": DCN,
    "solov2_Light_448_R18_3x": NO_DCN,
    "solov2_Light_448_R34_3x": NO_DCN,
    "solov2_Light_448_R50_3x": NO_DCN,
    "solov2_Light_512_DCN_R50_3x": {"MODEL.SOLOV2.USE_DCN_IN_MASK": False},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_the_official_configs_leave_to_the_code(name: str) -> None:
    actual = leaves(setup_cfg(get_config_file(f"SOLOv2/{name}.yaml")))
    expected = OF_THE_CODE | PUBLISHED[name]
    assert {key: actual[key] for key in expected} == expected


def test_every_other_solov2_config_is_ours() -> None:
    leaf_names = {
        path.stem for path in (ROOT / "configs" / "SOLOv2").glob("*.yaml") if path.stem[0] != "B"
    }
    assert leaf_names - set(PUBLISHED) == {"solov2_R50_LSJ_100e"}


def test_lsj_config() -> None:
    cfg = setup_cfg(get_config_file("SOLOv2/solov2_R50_LSJ_100e.yaml"))
    assert leaves(cfg.INPUT.LSJ) == {
        "ENABLED": True,
        "IMAGE_SIZE": 1024,
        "MIN_SCALE": 0.1,
        "MAX_SCALE": 2.0,
        "PAD": "mean",
    }
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR) == (64, 0.04)
    assert abs(cfg.SOLVER.MAX_ITER - 100 * 117266 / 64) < 100


def assert_refused(cfg: CfgNode, *words: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_config(cfg)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("INSTANCE_IN_FEATURES", ["p3", "p4", "p5", "p6"]),
        ("FPN_INSTANCE_STRIDES", [8, 8]),
        ("FPN_SCALE_RANGES", ((1, 96),)),
        ("NUM_GRIDS", [40, 36, 24, 16, 12, 8]),
    ],
)
def test_one_entry_per_level(key: str, value: Any) -> None:
    words = [f"MODEL.SOLOV2.{key} has {len(value)}", "One entry per level"]
    assert_refused(tiny_cfg(opts=[f"MODEL.SOLOV2.{key}", value]), *words)


def test_kernels_and_masks_must_match() -> None:
    cfg = tiny_cfg(opts=["MODEL.SOLOV2.NUM_KERNELS", 128, "MODEL.SOLOV2.NUM_MASKS", 64])
    assert_refused(
        cfg,
        "MODEL.SOLOV2.NUM_KERNELS is 128",
        "MODEL.SOLOV2.NUM_MASKS is 64",
        "NUM_KERNELS must be 64",
    )


def test_separate_mask_features_have_no_growing_grids() -> None:
    opts = ["MODEL.SOLOV2.MASK_FEATURES", "separate", "MODEL.SOLOV2.GRID_REFERENCE_SIZE", (64, 64)]
    assert_refused(tiny_cfg(opts=opts), "GRID_REFERENCE_SIZE is (64, 64)", "to 'unified'")


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("MODEL.SOLOV2.TYPE_DCN", "DCNv3", ["'DCN'", "'DCNv2'"]),
        ("MODEL.SOLOV2.DCN_CONVS", "first", ["'all'", "'last'"]),
        ("MODEL.SOLOV2.MASK_COORD_LEVEL", "fifth", ["'fourth'", "'last'"]),
        ("MODEL.SOLOV2.MASK_FEATURES", "shared", ["'unified'", "'separate'"]),
        ("MODEL.SOLOV2.SHARED_CELL", "none", ["'both'", "'last'"]),
        ("MODEL.SOLOV2.NMS_TYPE", "matrx", ["'matrix'", "'mask'"]),
        ("MODEL.SOLOV2.NMS_KERNEL", "gauss", ["'gaussian'", "'linear'"]),
        ("MODEL.SOLOV2.LOSS.DICE_NORMALIZER", "images", ["'pairs'", "'cells'"]),
        ("MODEL.SOLOV2.LOSS.FOCAL_USE_SIGMOID", False, ["True"]),
        ("SOLVER.OPTIMIZER", "Adam", ["'SGD'", "'AdamW'"]),
    ],
)
def test_unknown_choices_name_the_key_the_value_and_the_allowed(
    key: str, value: Any, allowed: list[str]
) -> None:
    assert_refused(tiny_cfg(opts=[key, value]), f"{key} is {value!r}", "allowed", *allowed)


def test_a_negative_backbone_multiplier_is_refused() -> None:
    cfg = tiny_cfg(opts=["SOLVER.BACKBONE_MULTIPLIER", -0.5])
    assert_refused(cfg, "SOLVER.BACKBONE_MULTIPLIER is -0.5", "must be positive")


@pytest.mark.parametrize("method", ["SOLO", "DecoupledSOLO", "SOLOv2"])
@pytest.mark.parametrize(
    ("key", "value", "needed"),
    [
        ("INSTANCE_CHANNELS", 0, "at least 1 is needed"),
        ("NUM_INSTANCE_CONVS", -1, "at least 1 is needed"),
        ("PRIOR_PROB", 0.0, "above 0 and below 1 is needed"),
        ("PRIOR_PROB", 1.0, "above 0 and below 1 is needed"),
        ("SCORE_THR", 30.0, "a number from 0 to 1 is needed"),
        ("UPDATE_THR", -1.0, "a number from 0 to 1 is needed"),
        ("MASK_THR", 50.0, "a number from 0 to 1 is needed"),
        ("MASK_NMS_THR", 1.5, "a number from 0 to 1 is needed"),
    ],
)
def test_numbers_with_which_nothing_can_be_built_or_found(
    method: str, key: str, value: float, needed: str
) -> None:
    key = f"MODEL.{'SOLOV2' if method == 'SOLOv2' else 'SOLO'}.{key}"
    assert_refused(tiny_cfg(method, opts=[key, value]), f"{key} is {value}; ", needed)


@pytest.mark.parametrize("key", ["MASK_CHANNELS", "NUM_MASKS"])
def test_mask_features_have_channels(key: str) -> None:
    opts = ["MODEL.SOLOV2.NUM_KERNELS", 0, "MODEL.SOLOV2.NUM_MASKS", 0, f"MODEL.SOLOV2.{key}", 0]
    assert_refused(tiny_cfg(opts=opts), " is 0; at least 1 is needed")


def test_a_negative_exponent_of_the_focal_loss_is_refused() -> None:
    """With it the loss of what is surely right would be infinite."""
    key = "MODEL.SOLOV2.LOSS.FOCAL_GAMMA"
    with pytest.raises(ConfigError, match=rf"{key} is -1\.0; at least 0 is needed"):
        setup_cfg(get_config_file("SOLOv2/solov2_R50_1x.yaml"), [key, "-1.0"])


def test_reversed_scale_ranges_are_refused() -> None:
    ranges = ((24, 1), (12, 48), (24, 96), (48, 192), (96, 512))
    cfg = tiny_cfg(opts=["MODEL.SOLOV2.FPN_SCALE_RANGES", ranges])
    assert_refused(cfg, "MODEL.SOLOV2.FPN_SCALE_RANGES", "(24, 1)", "lower end comes first")


@pytest.mark.parametrize("key", ["INSTANCE_IN_CHANNELS", "MASK_IN_CHANNELS"])
def test_channels_that_are_neither_the_default_nor_the_backbones(key: str) -> None:
    build_model(tiny_cfg(opts=[f"MODEL.SOLOV2.{key}", 16]))
    with pytest.raises(ConfigError) as error:
        build_model(tiny_cfg(opts=[f"MODEL.SOLOV2.{key}", 100]))
    for words in (f"MODEL.SOLOV2.{key} is 100", "16 channels", f"Set MODEL.SOLOV2.{key} 16"):
        assert words in str(error.value)


def test_the_defaults_and_a_tiny_model_are_not_refused() -> None:
    check_config(get_cfg())
    check_config(tiny_cfg())


@pytest.mark.parametrize(
    ("key", "value", "advice"),
    [
        ("DATASETS.TRAIN", "my_train", "\"('my_train',)\""),
        ("INPUT.MIN_SIZE_TRAIN", "480", '"(480,)"'),
        ("SOLVER.WEIGHT_DECAY", "0", "0.0"),
        ("SOLVER.MAX_ITER", "9e4", "90000"),
    ],
)
def test_the_advice_after_a_value_of_another_type_works(
    key: str, value: str, advice: str, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(f"{key}: {value}\n".replace(".", ": {", 1) + "}")
    path = get_config_file("SOLOv2/solov2_R50_1x.yaml")
    for words in ([str(tmp_path / "a.yaml")], [path, [key, value]]):
        with pytest.raises(ConfigError, match=r"Type mismatch") as error:
            setup_cfg(*words)
        assert str(error.value).endswith(f"{key} {advice}.")
    setup_cfg(path, [key, advice.strip('"')])


@pytest.mark.parametrize(
    ("key", "value", "advice"),
    [
        ("SOLVER.AMP.ENABLED", "1", "Write True or False."),
        ("SOLVER.BASE_LR", "fast", "Write a number."),
        ("SOLVER.MAX_ITER", "1.5", "Write a whole number, in digits alone."),
        ("OUTPUT_DIR", "7", "Write text."),
    ],
)
def test_a_value_of_another_type_is_told_what_to_be(key: str, value: str, advice: str) -> None:
    with pytest.raises(ConfigError) as error:
        setup_cfg(get_config_file("SOLOv2/solov2_R50_1x.yaml"), [key, value])
    assert str(error.value).endswith(advice)


def test_a_folder_is_no_config_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"which is a folder.+instance {tmp_path}/config.yaml"):
        setup_cfg(str(tmp_path))


def test_a_missing_config_file(tmp_path: Path) -> None:
    path = str(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=f"--config-file {path}: there is no such file"):
        setup_cfg(path)


def test_an_unknown_name_in_the_zoo_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"SOLOv2/solov2_R50_2x\.yaml.*solov2_R50_1x\.yaml"):
        get_config_file("SOLOv2/solov2_R50_2x.yaml")


def write_tiny(folder: Path) -> str:
    path = folder / "tiny.yaml"
    path.write_text("MODEL:\n  META_ARCHITECTURE: SOLOv2\n")
    return str(path)


def test_opts_override_the_file(tmp_path: Path) -> None:
    cfg = setup_cfg(write_tiny(tmp_path), ["MODEL.SOLOV2.NUM_GRIDS", "[5, 4, 3, 2, 1]"])
    assert cfg.MODEL.SOLOV2.NUM_GRIDS == [5, 4, 3, 2, 1]


def test_opts_that_are_no_pairs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"KEY VALUE pairs, but 3 words.*SOLVER\.BASE_LR 1 SEED"):
        setup_cfg(write_tiny(tmp_path), ["SOLVER.BASE_LR", "1", "SEED"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_by_default_becomes_cpu_and_by_request_is_an_error(tmp_path: Path) -> None:
    path = write_tiny(tmp_path)
    assert setup_cfg(path).MODEL.DEVICE == "cpu"
    with pytest.raises(
        ConfigError, match=r"MODEL\.DEVICE cuda:0: there is no CUDA.*MODEL\.DEVICE cpu"
    ):
        setup_cfg(path, ["MODEL.DEVICE", "cuda:0"])


@pytest.mark.parametrize("as_list", [False, True])
def test_a_config_inherits_from_the_packages_own_wherever_it_lies(
    as_list: bool, tmp_path: Path
) -> None:
    base = "solo_family://SOLOv2/solov2_R101_3x.yaml"
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "mid.yaml").write_text(f"_BASE_: {[base] if as_list else base}\nSEED: 3\n")
    (folder / "my.yaml").write_text("_BASE_: mid.yaml\n")
    moved = folder.rename(tmp_path / "second")
    expected = setup_cfg(get_config_file("SOLOv2/solov2_R101_3x.yaml"), ["SEED", "3"])
    assert setup_cfg(str(moved / "my.yaml")).dump() == expected.dump()
    # As code of detectron2's own does it.
    plain = get_detectron2_cfg()
    plain.merge_from_file(str(moved / "my.yaml"))
    assert plain.MODEL.SOLOV2 == expected.MODEL.SOLOV2
    # What is saved inherits from nothing.
    assert "_BASE_" not in expected.dump()


def test_a_base_that_the_package_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("_BASE_: solo_family://SOLOv2/none.yaml\n")
    with pytest.raises(
        ConfigError, match=r"my\.yaml names .*configs/SOLOv2/none\.yaml: there is no"
    ):
        setup_cfg(str(tmp_path / "my.yaml"))
