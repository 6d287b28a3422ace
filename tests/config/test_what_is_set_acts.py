"""A key that would do nothing is refused with the key that acts; so are values of another unit."""

import re
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import get_cfg as detectron2_cfg
from detectron2.modeling import BACKBONE_REGISTRY

from solo_family import METHODS, model_zoo
from solo_family.config import check_config, setup_cfg
from solo_family.config.given import SECTIONS
from solo_family.config.load import dotted_values
from solo_family.config.unread import READ, UNREAD, is_under
from solo_family.errors import ConfigError

from ..conftest import tiny_cfg, tiny_model

_SOLOV2, _SPARSE, _WINDOWS = (
    model_zoo.get_config_file(f"quickstart/{name}.yaml")
    for name in ("solov2", "sparse_inst", "instance_fcn")
)


@pytest.mark.parametrize(
    ("method", "key", "value", "instead"),
    [
        ("SOLOv2", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.9, "MODEL.SOLOV2.SCORE_THR"),
        ("SOLO", "MODEL.RETINANET.SCORE_THRESH_TEST", 0.9, "MODEL.SOLO.SCORE_THR"),
        ("SparseInst", "MODEL.ROI_HEADS.NUM_CLASSES", 3, "MODEL.SPARSE_INST.DECODER.NUM_CLASSES"),
        ("MaskFormer", "MODEL.ROI_HEADS.NUM_CLASSES", 3, "MODEL.SEM_SEG_HEAD.NUM_CLASSES"),
    ],
)
def test_the_key_that_acts_is_named(method: str, key: str, value: Any, instead: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_config(tiny_cfg(method, opts=[key, value]))
    assert str(raised.value).startswith(f"{key} is {value}, but ")
    assert f": set {instead}. Leave it at" in str(raised.value)
    check_config(tiny_cfg(method, opts=[instead, value]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.KEYPOINT_ON", True),
        ("MODEL.RPN.NMS_THRESH", 0.5),
        ("MODEL.PANOPTIC_FPN.COMBINE.ENABLED", False),
        ("MODEL.SEM_SEG_HEAD.CONVS_DIM", 64),
        ("DATASETS.PROPOSAL_FILES_TRAIN", ("a.pkl",)),
        ("TEST.KEYPOINT_OKS_SIGMAS", [0.5]),
        ("GLOBAL.HACK", 2.0),
    ],
)
def test_keys_of_other_models_are_refused(key: str, value: Any) -> None:
    said = re.escape(f"{key} is {value!r}, but SOLOv2 does not read it. Leave")
    with pytest.raises(ConfigError, match=said):
        check_config(tiny_cfg(opts=[key, value]))


def test_every_key_of_detectron2_has_its_place() -> None:
    for key in dotted_values(detectron2_cfg()):
        assert is_under(key, READ) != is_under(key, UNREAD), key


def test_one_key_limits_the_instances() -> None:
    assert tiny_model(opts=["TEST.DETECTIONS_PER_IMAGE", 2]).selector.post_nms == 2


def test_published_configs_and_lists_for_tuples_pass() -> None:
    for name in model_zoo.list()[::10]:
        setup_cfg(model_zoo.get_config_file(name), ["MODEL.DEVICE", "cpu"])
    cfg = tiny_cfg()
    cfg.MODEL.RPN.BBOX_REG_WEIGHTS = list(cfg.MODEL.RPN.BBOX_REG_WEIGHTS)
    check_config(cfg)


@pytest.mark.parametrize(
    ("config", "key", "value", "said"),
    [
        (_SOLOV2, "MODEL.SOLO.SCORE_THR", "0.3", "SOLOv2 does not read it: set MODEL.SOLOV2.SCORE"),
        (_SOLOV2, "MODEL.SPARSE_INST.DECODER.SCALE_FACTOR", "4.0", "its keys are those of MODEL.S"),
        (_SPARSE, "MODEL.SOLOV2.LOSS.DICE_WEIGHT", "1.0", "SparseInst does not read it: its keys"),
        (_SOLOV2, "MODEL.RESNETS.DEPTH", "101", "build_timm_fpn_backbone does not read it"),
        (_SPARSE, "MODEL.FPN.OUT_CHANNELS", "128", "its keys are those of MODEL.TIMM. Leave"),
        (
            _WINDOWS,
            "TEST.DETECTIONS_PER_IMAGE",
            "50",
            "instead: set MODEL.INSTANCE_FCN.MAX_PER_IMG.",
        ),
    ],
)
def test_what_a_command_gives_is_read(config: str, key: str, value: str, said: str) -> None:
    pairs = ["MODEL.DEVICE", "cpu", key, value]
    with pytest.raises(ConfigError, match=rf"^{re.escape(key)} is .*{re.escape(said)}"):
        setup_cfg(config, pairs)


def test_values_that_change_nothing_and_run_configs_pass(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    setup_cfg(_SOLOV2, ["MODEL.DEVICE", "cpu", "MODEL.SOLO.SCORE_THR", "0.1"])
    # `quickstart` gives it, whatever the backbone.
    resnet = model_zoo.get_config_file("SOLOv2/solov2_R50_1x.yaml")
    setup_cfg(resnet, ["MODEL.DEVICE", "cpu", "MODEL.TIMM.WEIGHTS", "a.pth"])
    cfg = setup_cfg(_SOLOV2, ["MODEL.DEVICE", "cpu"])
    # Of a version with another default, say.
    cfg.MODEL.SOLO.SCORE_THR, cfg.MODEL.RESNETS.DEPTH = 0.3, 101
    config.write_text(cfg.dump())
    assert setup_cfg(str(config)).MODEL.SOLO.SCORE_THR == 0.3


@pytest.mark.parametrize(
    ("key", "value", "switch"),
    [
        ("INPUT.CROP.SIZE", "[0.5, 0.5]", "INPUT.CROP.ENABLED"),
        ("SOLVER.EMA.DECAY", "0.99", "SOLVER.EMA.ENABLED"),
        ("SOLVER.AMP.PRECISION", "bfloat16", "SOLVER.AMP.ENABLED"),
        ("INPUT.CROP.AROUND_OBJECTS", "(64, 64)", ""),
    ],
)
def test_what_a_switch_turns_off_is_warned_of(
    caplog: pytest.LogCaptureFixture, key: str, value: str, switch: str
) -> None:
    setup_cfg(_SOLOV2, ["MODEL.DEVICE", "cpu", key, value])
    assert (f"{key} is given, but does nothing while {switch} is False." in caplog.text) == bool(
        switch
    )
    caplog.clear()
    if switch:
        setup_cfg(_SOLOV2, ["MODEL.DEVICE", "cpu", key, value, switch, "True"])
    assert "does nothing" not in caplog.text


def test_each_backbone_has_its_sections() -> None:
    assert {name for name, _ in BACKBONE_REGISTRY} >= set(SECTIONS)
    for method in METHODS.values():
        assert set(method.backbones) <= set(SECTIONS)


@pytest.mark.parametrize(
    ("kind", "size", "advice"),
    [
        ("relative_range", [64, 64], ("INPUT.CROP.TYPE", "absolute")),
        ("relative", [0.5, 2.0], ("INPUT.CROP.TYPE", "absolute_range")),
        ("absolute", [0.5, 0.5], ("INPUT.CROP.TYPE", "relative")),
        ("absolute_range", [0.5, 64], ("INPUT.CROP.SIZE", [32, 64])),
        ("relative", [0.0, 0.5], ("INPUT.CROP.SIZE", [0.5, 0.5])),
    ],
)
def test_a_crop_of_another_unit(kind: str, size: list[float], advice: tuple[str, Any]) -> None:
    opts = ["INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", kind, "INPUT.CROP.SIZE", size]
    with pytest.raises(ConfigError, match=r"INPUT\.CROP\.SIZE is"):
        check_config(tiny_cfg(opts=opts))
    if advice != ("INPUT.CROP.TYPE", "absolute_range"):
        check_config(tiny_cfg(opts=[*opts, *advice]))
    check_config(tiny_cfg(opts=[*opts, "INPUT.CROP.ENABLED", False]))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["p3", "p2"], "name the finest first"),
        (["p2", "p4"], "name the finest first"),
        (["p2", "p2"], "name the finest first"),
        (["p2", "p3", "p4", "p5", "p6"], "has p6 of stride 64, but inputs are padded to"),
    ],
)
def test_mask_features_that_do_not_halve_are_refused(names: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^MODEL\.SOLOV2\.MASK_IN_FEATURES .*{said}"):
        tiny_model(opts=["MODEL.SOLOV2.MASK_IN_FEATURES", names])
    assert tiny_model(opts=["MODEL.SOLOV2.MASK_IN_FEATURES", ["p3", "p4"]]).mask_features


@pytest.mark.parametrize(
    ("method", "key", "value"),
    [
        ("SparseInst", "MODEL.SPARSE_INST.DECODER.INST.CONVS", 0),
        ("SparseInst", "MODEL.SPARSE_INST.DECODER.MASK.DIM", 0),
        ("InstanceFCN", "MODEL.INSTANCE_FCN.WINDOWS_PER_IMAGE", 0),
        ("InstanceFCN", "MODEL.INSTANCE_FCN.TEST_SCALES", (600, 0)),
    ],
)
def test_counts_and_sizes_of_0_are_refused(method: str, key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{re.escape(key)} is "):
        check_config(tiny_cfg(method, opts=[key, value]))
