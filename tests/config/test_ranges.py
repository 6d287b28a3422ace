"""Numbers beyond their range are refused in one line, before anything is built."""

import re
from typing import Any

import pytest

from solo_family import METHODS
from solo_family.config import check_config
from solo_family.config.load import dotted_values
from solo_family.config.owners import own_keys
from solo_family.config.ranges import OF_METHODS, RANGES
from solo_family.errors import ConfigError

from ..conftest import tiny_cfg

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("method", "key", "values"),
    [
        ("SOLOv2", "MODEL.SOLOV2.LOSS.DICE_WEIGHT", (-3.0, INF)),
        ("SOLOv2", "MODEL.SOLOV2.LOSS.FOCAL_ALPHA", (1.5,)),
        ("SOLO", "MODEL.SOLO.LOSS.MASK_FOCAL_WEIGHT", (-1.0,)),
        ("SOLO", "MODEL.SOLO.NUM_CLASSES", (-1,)),
        ("SparseInst", "MODEL.SPARSE_INST.LOSS.CLASS_WEIGHT", (-2.0,)),
        ("SparseInst", "MODEL.SPARSE_INST.MATCHER.ALPHA", (-0.8,)),
        ("SparseInst", "MODEL.SPARSE_INST.DECODER.SCALE_FACTOR", (0.0,)),
        ("MaskFormer", "MODEL.MASK_FORMER.MASK_WEIGHT", (-20.0, INF)),
        ("MaskFormer", "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", (-1,)),
        ("InstanceFCN", "MODEL.INSTANCE_FCN.LOSS.MASK_WEIGHT", (-1.0,)),
        ("SOLOv2", "SOLVER.BASE_LR", (-0.1, INF)),
        ("SOLOv2", "SOLVER.MOMENTUM", (1.0, -0.1)),
        ("SOLOv2", "SOLVER.EMA.DECAY", (1.0, 2.0)),
        ("SOLOv2", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", (0.0,)),
        ("SOLOv2", "SOLVER.CHECKPOINT_PERIOD", (0, -1)),
        ("SOLOv2", "SOLVER.IMS_PER_BATCH", (-1,)),
        ("SOLOv2", "INPUT.MIN_SIZE_TRAIN", ((-1,), (640, -800))),
        ("SOLOv2", "INPUT.MAX_SIZE_TEST", (0,)),
        ("SOLOv2", "INPUT.COLOR_AUG.CONTRAST", (-0.1, 40.0)),
        ("SOLOv2", "INPUT.LSJ.MIN_SCALE", (0.0,)),
        ("SOLOv2", "DATALOADER.NUM_WORKERS", (-1,)),
        ("MaskFormer", "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA", (0.0, 75.0)),
        ("MaskFormer", "MODEL.SWIN.DROP_PATH_RATE", (1.0,)),
    ],
)
def test_numbers_out_of_range_are_refused(method: str, key: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=rf"^{re.escape(key)} is .*; .* is needed\.$"):
            check_config(tiny_cfg(method, opts=[key, value]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.SOLOV2.LOSS.FOCAL_ALPHA", -1.0),  # detectron2's: no weights
        ("MODEL.SOLOV2.LOSS.DICE_WEIGHT", 0.0),
        ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", INF),
        ("SOLVER.WEIGHT_DECAY_BIAS", None),
        ("INPUT.MIN_SIZE_TRAIN", (0,)),  # as large as they are
        ("INPUT.SIZE_DIVISIBILITY", 32),
        ("TEST.EVAL_PERIOD", -1),
        ("SEED", -1),
    ],
)
def test_values_that_mean_something_pass(key: str, value: Any) -> None:
    check_config(tiny_cfg(opts=[key, value]))


@pytest.mark.parametrize("key", ["SOLVER.BASE_LR", "MODEL.SOLOV2.SIGMA", "MODEL.SOLO.SIGMA"])
def test_nan_is_no_number(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{re.escape(key)} is nan, which is no number"):
        check_config(tiny_cfg(opts=[key, NAN]))


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        (["INPUT.MIN_SIZE_TRAIN", ()], "INPUT.MIN_SIZE_TRAIN has no sizes"),
        (["INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"], "INPUT.MIN_SIZE_TRAIN is [800] with"),
        (["INPUT.MIN_SIZE_TRAIN_SAMPLING", "random"], "INPUT.MIN_SIZE_TRAIN_SAMPLING is 'random'"),
        (["INPUT.RANDOM_FLIP", "both"], "INPUT.RANDOM_FLIP is 'both'; allowed: 'horizontal'"),
        (["INPUT.LSJ.MIN_SCALE", 3.0], "INPUT.LSJ.MIN_SCALE is 3.0, above INPUT.LSJ.MAX_SCALE"),
        (["INPUT.SIZE_DIVISIBILITY", 0], "INPUT.SIZE_DIVISIBILITY is 0; it must be a number"),
    ],
)
def test_what_detectron2_would_assert_is_refused(opts: list[Any], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{re.escape(said)}"):
        check_config(tiny_cfg(opts=opts))


def test_every_range_is_of_a_key_and_holds_its_default() -> None:
    for method in METHODS:
        check_config(tiny_cfg(method))
    values = dotted_values(tiny_cfg())
    assert set(RANGES) <= set(values)
    keys = {key for method in METHODS.values() for key in own_keys(method)}
    for end in OF_METHODS:
        assert any(key.endswith((f".{end}", f"_{end}")) for key in keys), end
