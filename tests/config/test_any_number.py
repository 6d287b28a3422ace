"""Keys that take any number, though yacs asks for the type of the default."""

from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from solo_family.config import get_cfg, setup_cfg
from solo_family.config.rules import get_key
from solo_family.errors import ConfigError
from solo_family.model_zoo import get_config_file


def plain_cfg() -> CfgNode:
    """Returns detectron2's own configuration after it has read one of our files."""
    cfg = get_detectron2_cfg()
    cfg.merge_from_file(get_config_file("SOLOv2/solov2_R50_1x.yaml"))
    return cfg


@pytest.mark.parametrize("method", ["SOLO", "SOLOV2", "SPARSE_INST", "INSTANCE_FCN"])
@pytest.mark.parametrize("get", [pytest.param(get_cfg, marks=pytest.mark.slow), plain_cfg])
def test_sigma_of_nms_is_any_number(
    method: str, get: Callable[[], CfgNode], tmp_path: Path
) -> None:
    key = f"MODEL.{method}.NMS_SIGMA"
    cfg = get()
    for value in (2, 0.5, 1.5, 3, 2.0):
        cfg.merge_from_list([key, value])
        assert get_key(cfg, key) == value
        cfg.merge_from_list([key, str(value + 1)])
        assert get_key(cfg, key) == value + 1
        path = tmp_path / "own.yaml"
        path.write_text(f"MODEL: {{{method}: {{NMS_SIGMA: {value}}}}}\n")
        cfg.merge_from_file(str(path))
        assert get_key(cfg, key) == value
        path.write_text(cfg.dump())
        again = get()
        again.merge_from_file(str(path))
        assert get_key(again, key) == value
    for wrong in ("much", True, "(1, 2)"):
        with pytest.raises(ValueError, match="Type mismatch"):
            cfg.merge_from_list([key, wrong])


@pytest.mark.parametrize("method", ["SOLO", "SOLOv2", "InstanceFCN"])
def test_a_sigma_that_would_raise_scores(method: str) -> None:
    path = {"SOLO": "SOLO/solo_R50_1x.yaml", "SOLOv2": "SOLOv2/solov2_R50_1x.yaml"}.get(
        method, "InstanceFCN/instance_fcn_R50_COCO_k5.yaml"
    )
    key = f"MODEL.{'INSTANCE_FCN' if method == 'InstanceFCN' else method.upper()}.NMS_SIGMA"
    assert get_key(setup_cfg(get_config_file(path), [key, "0.5"]), key) == 0.5
    with pytest.raises(ConfigError, match=rf"{key} is -0\.5; at least 0 is needed"):
        setup_cfg(get_config_file(path), [key, "-0.5"])
