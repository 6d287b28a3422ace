"""How many instances a model returns at most, by every key that limits them."""

import logging
import re

import pytest

from solo_family import METHODS
from solo_family.config import check_config
from solo_family.config.caps import instance_limits, most_instances, too_many_objects
from solo_family.data.loading.loader import build_train_loader
from solo_family.errors import ConfigError

from ..coco_folder import run_cfg, small_dataset
from ..conftest import tiny_cfg

CAP = "TEST.DETECTIONS_PER_IMAGE"
EXPECTED = {
    "SOLO": {CAP: 100, "MODEL.SOLO.NMS_PRE": 500, "MODEL.SOLO.NUM_GRIDS": 360},
    "DecoupledSOLO": {CAP: 100, "MODEL.SOLO.NMS_PRE": 500, "MODEL.SOLO.NUM_GRIDS": 360},
    "SOLOv2": {CAP: 100, "MODEL.SOLOV2.NMS_PRE": 500, "MODEL.SOLOV2.NUM_GRIDS": 360},
    "SparseInst": {CAP: 100, "MODEL.SPARSE_INST.DECODER.NUM_MASKS": 20},
    "MaskFormer": {CAP: 100, "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 10},
    "InstanceFCN": {"MODEL.INSTANCE_FCN.MAX_PER_IMG": 50},
}
TINY = {
    "SparseInst": ["MODEL.SPARSE_INST.DECODER.NUM_MASKS", 20],
    "MaskFormer": [
        *("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 10, "MODEL.MASK_FORMER.TEST.INSTANCE_ON", True),
    ],
}


@pytest.mark.parametrize("method", sorted(EXPECTED))
def test_every_method_says_what_limits_its_instances(method: str) -> None:
    cfg = tiny_cfg(method, opts=TINY.get(method))
    assert instance_limits(cfg) == EXPECTED[method]
    assert most_instances(cfg) == min(EXPECTED[method].values())


def test_all_methods_are_listed_and_another_one_has_the_cap_alone() -> None:
    assert set(EXPECTED) == set(METHODS)
    cfg = tiny_cfg("SOLOv2")
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    assert instance_limits(cfg) == {CAP: 100}


def test_a_methods_own_cap_is_named_where_it_is_set() -> None:
    cfg = tiny_cfg("SOLOv2", opts=["MODEL.SOLOV2.MAX_PER_IMG", 30])
    assert instance_limits(cfg)["MODEL.SOLOV2.MAX_PER_IMG"] == 30
    assert CAP not in instance_limits(cfg)
    following = tiny_cfg("SOLOv2", opts=["MODEL.SOLOV2.GRID_REFERENCE_SIZE", (64, 64)])
    assert "MODEL.SOLOV2.NUM_GRIDS" not in instance_limits(following)


def test_semantic_segmentation_has_no_instances() -> None:
    off = ["MODEL.MASK_FORMER.TEST.INSTANCE_ON", False, "MODEL.MASK_FORMER.TEST.PANOPTIC_ON", False]
    cfg = tiny_cfg("MaskFormer", opts=[*off, "MODEL.MASK_FORMER.TEST.SEMANTIC_ON", True])
    assert most_instances(cfg) is None
    assert too_many_objects(cfg, [("a.png", 10**6)]) == ""


def test_the_image_with_most_objects_is_named_with_the_keys_to_raise() -> None:
    cfg = tiny_cfg("SOLOv2", opts=[CAP, 120])
    assert too_many_objects(cfg, [("a.png", 120), ("b.png", 3)]) == ""
    said = too_many_objects(cfg, [("a.png", 130), ("b.png", 400), ("c.png", 3)])
    assert said.startswith("b.png has 400 objects, of which this model can return 120 at most")
    assert "1 other images have more than 120, too." in said
    assert f"Raise to 400 or more: {CAP} (120), MODEL.SOLOV2.NUM_GRIDS (360);" in said
    cfg.defrost()
    cfg.TEST.TILE.SIZE = 256
    assert too_many_objects(cfg, [("b.png", 400)]) == ""


def test_training_warns_once(tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    folder = small_dataset(tmp_path / "data")
    annotations = folder.content["annotations"]
    annotations += [
        annotations[0] | {"id": 100 + number, "iscrowd": int(number > 1)} for number in range(4)
    ]
    folder.write()
    cfg = run_cfg(folder.name, tmp_path / "run", CAP, 2)
    with caplog.at_level(logging.WARNING):
        build_train_loader(cfg)
    said = [record.getMessage() for record in caplog.records if "this model can" in record.message]
    assert len(said) == 1
    assert "0.png has 3 objects, of which this model can return 2 at most" in said[0]
    caplog.clear()
    build_train_loader(run_cfg(folder.name, tmp_path / "run", CAP, 3))
    assert "this model can" not in caplog.text


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize(
    ("method", "key"),
    [
        *((method, CAP) for method in sorted(METHODS) if method != "InstanceFCN"),
        *(("SOLOv2", "MODEL.SOLOV2.NMS_PRE"), ("SOLO", "MODEL.SOLO.NMS_PRE")),
        *(("SOLOv2", "MODEL.SOLOV2.MAX_PER_IMG"), ("SOLO", "MODEL.SOLO.MAX_PER_IMG")),
        ("SparseInst", "MODEL.SPARSE_INST.MAX_DETECTIONS"),
        ("InstanceFCN", "MODEL.INSTANCE_FCN.MAX_PER_IMG"),
        ("InstanceFCN", "MODEL.INSTANCE_FCN.NMS_PRE"),
    ],
)
def test_a_limit_that_leaves_none_or_leaves_the_last_out_is_refused(
    method: str, key: str, value: int
) -> None:
    cfg = tiny_cfg(method, opts=[*TINY.get(method, []), key, value])
    own = ("MODEL.SOLOV2.MAX_PER_IMG", "MODEL.SOLO.MAX_PER_IMG", "MODEL.SPARSE_INST.MAX_DETECTIONS")
    if value == 0 and key in (*own, "MODEL.INSTANCE_FCN.NMS_PRE"):
        check_config(cfg)  # 0 follows another key, or is all
        return
    with pytest.raises(ConfigError, match=rf"{re.escape(key)} is {value}(, which is how many|;)"):
        check_config(cfg)
    cfg.merge_from_list([key, 5000])
    check_config(cfg)
