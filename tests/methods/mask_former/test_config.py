"""MaskFormer's configuration: the official defaults, users' mistakes."""

from typing import Any

import pytest
from detectron2.config import get_cfg as get_detectron2_cfg

from solo_family.config import check_config, get_cfg
from solo_family.config.rules import get_key
from solo_family.errors import ConfigError
from solo_family.methods.mask_former.config import add_mask_former_config

from ...conftest import tiny_cfg, tiny_model

# mask_former/config.py of the official code, but for the solver, the mapper and detectron2's keys.
DEFAULTS = {
    "INPUT.COLOR_AUG_SSD": False,
    "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": 1.0,
    "INPUT.SIZE_DIVISIBILITY": -1,
    "SOLVER.WEIGHT_DECAY_EMBED": 0.0,
    "SOLVER.POLY_LR_POWER": 0.9,
    "SOLVER.POLY_LR_CONSTANT_ENDING": 0.0,
    "MODEL.MASK_FORMER.DEEP_SUPERVISION": True,
    "MODEL.MASK_FORMER.NO_OBJECT_WEIGHT": 0.1,
    "MODEL.MASK_FORMER.DICE_WEIGHT": 1.0,
    "MODEL.MASK_FORMER.MASK_WEIGHT": 20.0,
    "MODEL.MASK_FORMER.NHEADS": 8,
    "MODEL.MASK_FORMER.DROPOUT": 0.1,
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 2048,
    "MODEL.MASK_FORMER.ENC_LAYERS": 0,
    "MODEL.MASK_FORMER.DEC_LAYERS": 6,
    "MODEL.MASK_FORMER.PRE_NORM": False,
    "MODEL.MASK_FORMER.HIDDEN_DIM": 256,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 100,
    "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE": "res5",
    "MODEL.MASK_FORMER.ENFORCE_INPUT_PROJ": False,
    "MODEL.MASK_FORMER.TEST.PANOPTIC_ON": False,
    "MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD": 0.0,
    "MODEL.MASK_FORMER.TEST.SEMANTIC_INFERENCE_METHOD": "probabilistic",
    "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD": 0.0,
    "MODEL.MASK_FORMER.TEST.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE": False,
    "MODEL.MASK_FORMER.SIZE_DIVISIBILITY": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 256,
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 0,
    "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": "BasePixelDecoder",
    "MODEL.SWIN.PRETRAIN_IMG_SIZE": 224,
    "MODEL.SWIN.PATCH_SIZE": 4,
    "MODEL.SWIN.EMBED_DIM": 96,
    "MODEL.SWIN.DEPTHS": [2, 2, 6, 2],
    "MODEL.SWIN.NUM_HEADS": [3, 6, 12, 24],
    "MODEL.SWIN.WINDOW_SIZE": 7,
    "MODEL.SWIN.MLP_RATIO": 4.0,
    "MODEL.SWIN.QKV_BIAS": True,
    "MODEL.SWIN.QK_SCALE": None,
    "MODEL.SWIN.DROP_RATE": 0.0,
    "MODEL.SWIN.ATTN_DROP_RATE": 0.0,
    "MODEL.SWIN.DROP_PATH_RATE": 0.3,
    "MODEL.SWIN.APE": False,
    "MODEL.SWIN.PATCH_NORM": True,
    "MODEL.SWIN.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
}


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{key}.")
        elif key != "_BASE_":
            result[prefix + key] = value
    return result


def test_defaults_are_the_official_ones() -> None:
    cfg = get_cfg()
    assert {key: get_key(cfg, key) for key in DEFAULTS} == DEFAULTS


def test_detectron2s_defaults_stay() -> None:
    theirs, ours = get_detectron2_cfg(), get_detectron2_cfg()
    add_mask_former_config(ours)
    expected = flat(theirs)
    actual = flat(ours)
    assert {key: actual[key] for key in expected} == expected


MISTAKES = {
    (
        "MODEL.MASK_FORMER.TEST.SEMANTIC_INFERENCE_METHOD",
        "best",
    ): "allowed: 'probabilistic', 'hard'",
    ("MODEL.MASK_FORMER.MATCHING", "none"): "allowed: 'bipartite', 'fixed'",
    ("MODEL.MASK_FORMER.LOSS_TYPE", "pixels"): "'mask_classification', 'per_pixel_likelihood'",
    ("MODEL.MASK_FORMER.HIDDEN_DIM", 18): "multiple of MODEL.MASK_FORMER.NHEADS",
    ("MODEL.MASK_FORMER.DEC_LAYERS", 0): "at least 1",
    ("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 0): "at least 1",
    ("MODEL.MASK_FORMER.NHEADS", 0): "at least 1",
    ("MODEL.MASK_FORMER.HIDDEN_DIM", 0): "at least 1",
    ("MODEL.MASK_FORMER.DIM_FEEDFORWARD", -1): "at least 1",
    ("MODEL.MASK_FORMER.TRAIN_NUM_POINTS", 0): "at least 1",
    ("MODEL.SEM_SEG_HEAD.CONVS_DIM", 0): "at least 1",
    ("MODEL.SEM_SEG_HEAD.MASK_DIM", -1): "at least 1",
    ("MODEL.MASK_FORMER.DROPOUT", 10.0): "a number from 0 to 1",
    ("MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", 80.0): "a number from 0 to 1",
    ("MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD", -1.0): "a number from 0 to 1",
    ("MODEL.SEM_SEG_HEAD.NAME", "SemSegFPNHead"): "allowed: 'MaskFormerHead'",
    ("INPUT.DATASET_MAPPER_NAME", "mine"): "mask_former_semantic",
}


@pytest.mark.parametrize(("mistake", "said"), MISTAKES.items())
def test_mistakes_are_named(mistake: tuple[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=mistake[0]) as error:
        check_config(tiny_cfg("MaskFormer", opts=list(mistake)))
    assert said in str(error.value)


def test_a_model_that_predicts_nothing_is_refused() -> None:
    test = "MODEL.MASK_FORMER.TEST"
    off = [
        word
        for task in ("SEMANTIC", "PANOPTIC", "INSTANCE")
        for word in (f"{test}.{task}_ON", False)
    ]
    with pytest.raises(ConfigError, match="all False"):
        check_config(tiny_cfg("MaskFormer", opts=off))


@pytest.mark.parametrize("task", ["PANOPTIC_ON", "INSTANCE_ON"])
@pytest.mark.parametrize(
    ("key", "value"), [("MATCHING", "fixed"), ("LOSS_TYPE", "per_pixel_likelihood")]
)
def test_what_is_for_semantic_segmentation_is_refused_for_objects(
    key: str, value: str, task: str
) -> None:
    test = "MODEL.MASK_FORMER.TEST"
    semantic = [f"{test}.PANOPTIC_ON", False, f"{test}.INSTANCE_ON", False]
    opts = [*semantic, f"MODEL.MASK_FORMER.{key}", value]
    check_config(tiny_cfg("MaskFormer", opts=opts))
    with pytest.raises(ConfigError, match=f"{key} is {value}, .* as {test}.{task} needs"):
        check_config(tiny_cfg("MaskFormer", opts=[*opts, f"{test}.{task}", True]))


def test_fixed_matching_needs_a_query_per_class() -> None:
    opts = ["MODEL.MASK_FORMER.MATCHING", "fixed", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 2]
    with pytest.raises(ConfigError, match="each of the 3 classes"):
        tiny_model("MaskFormer", opts=opts)
