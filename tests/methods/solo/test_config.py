"""SOLO and Decoupled SOLO: published constants, ablations, users' mistakes."""

from pathlib import Path
from typing import Any

import pytest

from solo_family.config import check_config, get_cfg, setup_cfg
from solo_family.errors import ConfigError
from solo_family.model_zoo import get_config_file

from ...config.test_config import leaves
from ...conftest import ROOT, eager_to_find, picture, tiny_cfg, tiny_model

# What the official configs leave to the official code; their own values are in the golden files.
OF_THE_CODE = {
    "SOLVER.GAMMA": 0.1,
    "INPUT.LSJ.ENABLED": False,
    "MODEL.SOLO.NORM": "GN",
    "MODEL.SOLO.USE_COORD_CONV": True,
    "MODEL.SOLO.PRIOR_PROB": 0.01,
    "MODEL.SOLO.SHARED_CELL": "last",
    "MODEL.SOLO.CATEGORY_ALIGN": "interpolate",
    "MODEL.SOLO.MAX_PER_IMG": 0,  # of 100, by way of TEST.DETECTIONS_PER_IMAGE
    "MODEL.SOLO.NMS_TYPE": "matrix",
    "MODEL.SOLO.AREA_FILTER": True,
    "MODEL.SOLO.LOSS.MASK_LOSS": "dice",
}
NO_DCN = {
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False] * 4,
    "MODEL.SOLO.USE_DCN_IN_INSTANCE": False,
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "SOLO/solo_R50_1x": {"MODEL.SOLO.HEAD_NAME": ""} | NO_DCN,
    "SOLO/solo_R50_3x": {"MODEL.SOLO.HEAD_NAME": ""} | NO_DCN,
    "SOLO/solo_R101_3x": {"MODEL.SOLO.HEAD_NAME": ""} | NO_DCN,
    "DecoupledSOLO/decoupled_solo_R50_1x": NO_DCN,
    "DecoupledSOLO/decoupled_solo_R50_3x": NO_DCN,
    "DecoupledSOLO/decoupled_solo_R101_3x": NO_DCN,
    "DecoupledSOLO/decoupled_solo_Light_R50_3x": NO_DCN,
    "DecoupledSOLO/decoupled_solo_Light_DCN_R50_3x": {"MODEL.SOLO.DCN_CONVS": "last"},
}
# mmdetection's: 200 epochs of 117,266 images by 64, the rate divided after 22/25 and 24/25 of them.
LSJ = {"solo_R18_LSJ_200e": 18, "solo_R50_LSJ_200e": 50, "solo_R101_LSJ_200e": 101}


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_the_official_configs_leave_to_the_code(name: str) -> None:
    actual = leaves(setup_cfg(get_config_file(f"{name}.yaml")))
    expected = OF_THE_CODE | PUBLISHED[name]
    assert {key: actual[key] for key in expected} == expected


@pytest.mark.parametrize("name", LSJ)
def test_lsj_configs(name: str) -> None:
    cfg = setup_cfg(get_config_file(f"SOLO/{name}.yaml"))
    assert LSJ[name] == cfg.MODEL.RESNETS.DEPTH
    assert cfg.INPUT.LSJ.ENABLED
    assert cfg.SOLVER.AMP.ENABLED
    solver = cfg.SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.WEIGHT_DECAY) == (64, 0.04, 4e-5)
    assert abs(solver.MAX_ITER - 200 * 117266 / 64) < 200
    assert [round(step / solver.MAX_ITER, 3) for step in solver.STEPS] == [0.88, 0.96]


def test_every_published_config_is_there() -> None:
    names = {
        f"{folder}/{path.stem}"
        for folder in ("SOLO", "DecoupledSOLO")
        for path in (ROOT / "configs" / folder).glob("*.yaml")
        if not path.stem.startswith("Base-")
    }
    assert names == {*PUBLISHED, *(f"SOLO/{name}" for name in LSJ)}


# Every ablation of the paper (section 4.2): what its config changes of solo_R50_3x.
ABLATIONS: dict[str, dict[str, Any]] = {
    "solo_mask_loss_bce": {"LOSS.MASK_LOSS": "bce"},
    "solo_mask_loss_focal": {"LOSS.MASK_LOSS": "focal"},
    "solo_align_adaptive_pool": {"CATEGORY_ALIGN": "adaptive_pool"},
    "solo_align_region_grid": {"CATEGORY_ALIGN": "region_grid"},
    "solo_no_coord_conv": {"USE_COORD_CONV": False},
    **{f"solo_head_{count}_convs": {"NUM_INSTANCE_CONVS": count} for count in (4, 5, 6, 8)},
    **{f"solo_coord_convs_{count}": {"NUM_COORD_CONVS": count} for count in (2, 3)},
    **{
        f"solo_single_level_S{side}": {
            "NUM_GRIDS": [side],
            "INSTANCE_IN_FEATURES": ["p3"],
            "FPN_INSTANCE_STRIDES": [8],
            "FPN_SCALE_RANGES": ((1, 2048),),
        }
        for side in (12, 24, 36, 48, 60)
    },
    "solo_sigma_0.1": {"SIGMA": 0.1},
    "solo_sigma_0.4": {"SIGMA": 0.4},
    "solo_nms_mask": {"NMS_TYPE": "mask"},
    "solo_nms_soft": {"NMS_TYPE": "soft"},
    "solo_nms_fast": {"NMS_TYPE": "fast"},
}


def test_every_ablation_is_tested() -> None:
    folder = Path(ROOT / "configs" / "SOLO" / "ablations")
    assert {path.stem for path in folder.glob("*.yaml")} == set(ABLATIONS)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_what_it_is_about(name: str) -> None:
    default = leaves(setup_cfg(get_config_file("SOLO/solo_R50_3x.yaml")))
    ablation = leaves(setup_cfg(get_config_file(f"SOLO/ablations/{name}.yaml")))
    changed = {key: ablation[key] for key in ablation if ablation[key] != default[key]}
    expected = {f"MODEL.SOLO.{key}": value for key, value in ABLATIONS[name].items()}
    if "single_level" in name:
        expected["MODEL.FPN.IN_FEATURES"] = ["res3", "res4", "res5"]
    assert changed == expected | {"OUTPUT_DIR": f"output/{name}"}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_trains_and_infers(name: str) -> None:
    opts: list[Any] = []
    for key, value in ABLATIONS[name].items():
        opts += [f"MODEL.SOLO.{key}", value]
    if "single_level" in name:
        opts += ["MODEL.FPN.IN_FEATURES", ["res3", "res4", "res5"]]
    model = tiny_model("SOLO", opts=opts)
    losses = model([picture(), picture(objects=0)])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert len(eager_to_find(model)([picture()])[0]["instances"]) > 0


def test_keys_of_one_meaning_have_one_name_and_default() -> None:
    solo, solov2 = (leaves(get_cfg().MODEL[name]) for name in ("SOLO", "SOLOV2"))
    different = {key for key in solo.keys() & solov2.keys() if solo[key] != solov2[key]}
    assert different == {"INSTANCE_CHANNELS", "NUM_INSTANCE_CONVS", "SHARED_CELL"}
    assert set(solo) - set(solov2) == {
        "HEAD_NAME",
        "NUM_COORD_CONVS",
        "CATEGORY_ALIGN",
        "LOSS.MASK_LOSS",
        "LOSS.BCE_WEIGHT",
        "LOSS.BCE_POSITIVE_WEIGHT",
        "LOSS.MASK_FOCAL_WEIGHT",
    }


@pytest.mark.parametrize(
    ("method", "opts", "words"),
    [
        ("SOLO", ["HEAD_NAME", "DecoupledSOLOHead"], ["HEAD_NAME", "'SOLOHead'"]),
        ("DecoupledSOLO", ["HEAD_NAME", "SOLOHead"], ["HEAD_NAME", "'DecoupledSOLOLightHead'"]),
        ("SOLO", ["CATEGORY_ALIGN", "pool"], ["CATEGORY_ALIGN", "'adaptive_pool'"]),
        ("SOLO", ["LOSS.MASK_LOSS", "iou"], ["MASK_LOSS", "'dice', 'bce', 'focal'"]),
        ("DecoupledSOLO", ["NMS_TYPE", "hard"], ["NMS_TYPE", "'matrix', 'mask', 'soft', 'fast'"]),
        ("SOLO", ["NUM_GRIDS", [40, 36]], ["MODEL.SOLO.NUM_GRIDS has 2"]),
    ],
)
def test_mistakes_are_refused(method: str, opts: list, words: list[str]) -> None:
    cfg = tiny_cfg(method, opts=[f"MODEL.SOLO.{opts[0]}", opts[1]])
    with pytest.raises(ConfigError) as error:
        check_config(cfg)
    assert all(word in str(error.value) for word in words)


def test_a_config_may_inherit_from_several(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("SOLVER:\n  BASE_LR: 0.5\n  MAX_ITER: 7\n")
    (tmp_path / "b.yaml").write_text("SOLVER:\n  MAX_ITER: 8\n")
    (tmp_path / "both.yaml").write_text('_BASE_: ["a.yaml", "b.yaml"]\nSEED: 3\n')
    cfg = setup_cfg(str(tmp_path / "both.yaml"))
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SEED) == (0.5, 8, 3)
    (tmp_path / "b.yaml").write_text('_BASE_: "both.yaml"\n')
    with pytest.raises(ConfigError, match="cycle"):
        setup_cfg(str(tmp_path / "both.yaml"))
    (tmp_path / "b.yaml").write_text('_BASE_: ["none.yaml"]\n')
    with pytest.raises(ConfigError, match=r"b\.yaml names .*none\.yaml: there is no such file"):
        setup_cfg(str(tmp_path / "both.yaml"))
