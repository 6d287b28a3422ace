"""Converted files as they are: detectron2's checkpointer and predictor, train_net.py, the verb."""

import json
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from torch import nn

from solo_family.__main__ import main
from solo_family.config import setup_cfg
from solo_family.engine.main import main as train_net
from solo_family.weight_files import read_weights

from ..coco_folder import small_dataset
from ..conftest import tiny_model
from .lists import random_weights, save

GRIDS = ["MODEL.SOLOV2.NUM_GRIDS", "[10, 8, 6, 4, 3]"]


def converted(name: str, folder: Path, suffix: str = ".pth", *flags: str) -> Path:
    source = save(folder / "theirs.pth", random_weights(name))
    target = folder / "new" / f"ours{suffix}"
    assert main(["convert", str(source), str(target), *flags]) == 0
    return target


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_detectron2_takes_what_is_written(suffix: str, tmp_path: Path) -> None:
    path = converted("official_solov2", tmp_path, suffix)
    assert sorted(p.name for p in path.parent.iterdir()) == ["ours" + suffix, "ours.yaml"]
    cfg = setup_cfg(str(path.with_suffix(".yaml")), [*GRIDS, "MODEL.DEVICE", "cpu"])
    assert str(path) == cfg.MODEL.WEIGHTS
    expected = random_weights("official_solov2")["bbox_head.solo_kernel.weight"]
    model = build_model(cfg)
    DetectionCheckpointer(model).load(str(path))
    assert torch.equal(model.state_dict()["head.kernel_predictor.weight"], expected)
    predictor = DefaultPredictor(cfg)
    assert torch.equal(predictor.model.state_dict()["head.kernel_predictor.weight"], expected)
    image = torch.randint(0, 255, (64, 96, 3), dtype=torch.uint8).numpy()
    assert "instances" in predictor(image)


@pytest.mark.slow
def test_train_net_evaluates_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random_weights("official_solov2")
    for end in ("weight", "bias"):  # as many classes as the dataset has
        weights[f"bbox_head.solo_cate.{end}"] = weights[f"bbox_head.solo_cate.{end}"][:2]
    dataset = small_dataset(tmp_path / "data").name
    path = tmp_path / "ours.safetensors"
    assert main(["convert", str(save(tmp_path / "theirs.pth", weights)), str(path)]) == 0
    words = [
        "--config-file",
        str(tmp_path / "ours.yaml"),
        "--eval-only",
        "MODEL.WEIGHTS",
        str(path),
    ]
    words += [*GRIDS, "DATASETS.TEST", f"('{dataset}',)", "MODEL.DEVICE", "cpu"]
    words += ["OUTPUT_DIR", str(tmp_path / "run"), "DATALOADER.NUM_WORKERS", "0"]
    assert train_net(words) == 0


def test_the_yaml_is_a_base_for_others(tmp_path: Path) -> None:
    path = converted("adelaidet_solov2", tmp_path)
    other = path.with_name("other.yaml")
    other.write_text("_BASE_: ours.yaml\nSOLVER:\n  BASE_LR: 0.001\n")
    cfg = setup_cfg(str(other), ["MODEL.DEVICE", "cpu"])
    assert (cfg.INPUT.FORMAT, cfg.MODEL.RESNETS.STRIDE_IN_1X1) == ("BGR", True)
    assert (cfg.MODEL.SOLOV2.NUM_CLASSES, cfg.MODEL.FPN.OUT_CHANNELS) == (7, 32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "official_decoupled_light",
            {
                "META_ARCHITECTURE": "DecoupledSOLO",
                "SOLO.HEAD_NAME": "DecoupledSOLOLightHead",
                "SOLO.NUM_GRIDS": [10, 8, 6, 4, 3],
                "PIXEL_MEAN": [123.675, 116.28, 103.53],
                "RESNETS.STRIDE_IN_1X1": False,
                "RESNETS.NORM": "BN",
            },
        ),
        ("official_solo", {"SOLO.NUM_GRIDS": [10, 8, 6, 4, 3], "SOLO.NUM_CLASSES": 7}),
        (
            "official_solov2_dcn",
            {
                "RESNETS.DEFORM_ON_PER_STAGE": [False, True, True, True],
                "RESNETS.DEFORM_MODULATED": True,
                "SOLOV2.TYPE_DCN": "DCNv2",
                "SOLOV2.USE_DCN_IN_MASK": True,
            },
        ),
        ("mmdet3_solov2", {"SOLOV2.LOSS.DICE_NORMALIZER": "cells"}),
        ("sparse_inst_r50_soft", {"SPARSE_INST.DECODER.NAME": "GroupIAMSoftDecoder"}),
        ("sparse_inst_r50_giam", {"RESNETS.NORM": "FrozenBN", "SPARSE_INST.DECODER.GROUPS": 4}),
        pytest.param(
            *("sparse_inst_pvt_b2_li_giam", {"PVT.NAME": "b2", "PVT.LINEAR": True}),
            marks=pytest.mark.slow,
        ),
        ("sparse_inst_pvt_b1_giam", {"PVT.NAME": "b1", "PVT.EMBED_DIMS": [8, 16, 40, 64]}),
        ("sparse_inst_r50vd_giam", {"RESNETS.STEM_OUT_CHANNELS": 4, "RESNETS.WIDTH_PER_GROUP": 4}),
        pytest.param(
            *("sparse_inst_darknet53_giam", {"CSPNET.CHANNELS": [4, 8, 16, 32, 64, 128]}),
            marks=pytest.mark.slow,
        ),
        ("mask_former_swin", {"SWIN.NUM_HEADS": [1, 2, 4, 8], "SWIN.WINDOW_SIZE": 4}),
        (
            "mask_former_r50_panoptic",
            {"MASK_FORMER.TRANSFORMER_IN_FEATURE": "transformer_encoder"},
        ),
    ],
)
def test_the_weights_imply_these_keys(name: str, expected: dict, tmp_path: Path) -> None:
    path = converted(name, tmp_path)
    model = yaml.safe_load(path.with_suffix(".yaml").read_text())["MODEL"]
    for key, value in expected.items():
        node = model
        for part in key.split("."):
            node = node[part]
        assert node == value, key


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_backbone_initialises_any_model_that_has_it(suffix: str, tmp_path: Path) -> None:
    path = converted("torchvision_resnet18", tmp_path, suffix)
    opts = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
    model = tiny_model("SOLOv2", opts=[*opts, "MODEL.RESNETS.STEM_OUT_CHANNELS", 64])
    DetectionCheckpointer(model).load(str(path))
    expected = random_weights("torchvision_resnet18")["layer4.1.conv2.weight"]
    assert torch.equal(model.backbone.bottom_up.res5[1].conv2.weight, expected)


def test_an_unknown_weight_is_an_error_unless_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    weights = random_weights("official_solo") | {"bbox_head.extra.weight": torch.zeros(2)}
    words = ["convert", str(save(tmp_path / "a.pth", weights)), str(tmp_path / "b.pth")]
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "bbox_head.extra.weight" in message
    assert "--allow-unknown" in message
    assert not (tmp_path / "b.pth").exists()
    with caplog.at_level("INFO"):
        assert main([*words, "--allow-unknown"]) == 0
    assert "unknown, dropped: bbox_head.extra.weight" in caplog.text


def test_a_missing_weight_is_an_error_unless_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    weights = random_weights("sparse_inst_r50_giam")
    del weights["decoder.inst_branch.objectness.bias"]
    words = ["convert", str(save(tmp_path / "a.pth", weights)), str(tmp_path / "b.pth")]
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "decoder.instance_branch.predictor.objectness.bias" in message
    assert "--allow-missing" in message
    with caplog.at_level("INFO"):
        assert main([*words, "--allow-missing"]) == 0
    assert "missing, left at its initial value" in caplog.text


def test_what_is_dropped_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        converted("mask_former_r50_v1", tmp_path)
    assert "not needed: criterion.empty_weight (a constant of the loss)" in caplog.text


class Harmful:
    """Runs code where a pickle is read carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_a_pickle_that_runs_code_is_refused(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trap, path = tmp_path / "trap", tmp_path / f"bad{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps({"model": Harmful(trap)}))
    else:
        torch.save({"model": Harmful(trap)}, path)
    assert main(["convert", str(path), str(tmp_path / "b.pth")]) == 2
    assert "can't be read safely" in capsys.readouterr().err
    assert not trap.exists()


def test_a_pickle_of_arrays_is_read(tmp_path: Path) -> None:
    arrays = {k: v.numpy() for k, v in random_weights("mask_former_r50_v1").items()}
    source = tmp_path / "model_final_d8dbeb.pkl"
    source.write_bytes(pickle.dumps({"model": arrays, "__author__": "MaskFormer"}))
    assert main(["convert", str(source), str(tmp_path / "b.pth")]) == 0


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_so_is_a_pickle_of_tensors(protocol: int, tmp_path: Path) -> None:
    """As MaskFormer's converters of pretrained backbones write, for detectron2's checkpointer."""
    layer = nn.Linear(3, 2).to(torch.bfloat16)
    content = {**layer.state_dict(), "bias": nn.Parameter(torch.arange(4.0)[::2])}
    source = tmp_path / "swin_tiny.pkl"
    whole = {"model": content, "__author__": "third_party", "matching_heuristics": True}
    source.write_bytes(pickle.dumps(whole, protocol))
    for name, weight in read_weights(source).items():
        assert weight.dtype == content[name].dtype
        assert torch.equal(weight, content[name])
    loaded = nn.Linear(3, 2)
    DetectionCheckpointer(loaded).load(str(source))
    assert torch.equal(loaded.weight, layer.weight.float())
    assert loaded.bias.tolist() == [0, 2]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
def test_a_broken_file_is_one_message(
    content: bytes, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    assert main(["convert", str(path), str(tmp_path / "b.pth")]) == 2
    message = capsys.readouterr().err
    assert str(path) in message
    assert message.count("\n") == 1


def test_a_source_config_adds_what_weights_do_not_show(tmp_path: Path) -> None:
    base = tmp_path / "Base.yaml"
    base.write_text(
        "MODEL:\n  SOLOV2:\n    NUM_GRIDS: [10, 8, 6, 4, 3]\n    SCORE_THR: 0.2\n"
        "INPUT:\n  MIN_SIZE_TRAIN: !!python/object/apply:eval ['[1, 2]']\n"
        "  MAX_SIZE_TRAIN: !!python/object/apply:eval ['exit()']\n"
    )
    config = tmp_path / "theirs.yaml"
    config.write_text("_BASE_: Base.yaml\nMODEL:\n  SOLOV2:\n    SCORE_THR: 0.3\n  FCOS: {A: 1}\n")
    path = converted("adelaidet_solov2", tmp_path, ".pth", "--source-config", str(config))
    keys = yaml.safe_load(path.with_suffix(".yaml").read_text())
    assert keys["MODEL"]["SOLOV2"]["NUM_GRIDS"] == [10, 8, 6, 4, 3]
    assert keys["MODEL"]["SOLOV2"]["SCORE_THR"] == 0.3
    assert "FCOS" not in json.dumps(keys)
    assert keys["INPUT"]["MIN_SIZE_TRAIN"] == [1, 2]
    assert "MAX_SIZE_TRAIN" not in json.dumps(keys)


def test_a_config_in_python_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(tmp_path / "a.pth", random_weights("mmdet3_solo"))
    config = tmp_path / "solo.py"
    config.write_text(f"open({str(tmp_path / 'trap')!r}, 'w')")
    words = ["convert", str(source), str(tmp_path / "b.pth"), "--source-config", str(config)]
    assert main(words) == 2
    assert "only yaml is read" in capsys.readouterr().err
    assert not (tmp_path / "trap").exists()


def test_an_unknown_file_names_the_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.pth"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    assert main(["convert", str(path), str(tmp_path / "b.pth")]) == 2
    assert "belong to no known source" in capsys.readouterr().err
    assert main(["convert", str(path), str(tmp_path / "b.pth"), "--source", "caffe"]) == 2
    assert "adelaidet" in capsys.readouterr().err


def test_the_target_must_be_a_checkpoint_and_not_the_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(save(tmp_path / "a.pth", random_weights("official_solo")))
    assert main(["convert", path, path]) == 2
    assert "give another name" in capsys.readouterr().err
    assert main(["convert", path, str(tmp_path / "b.onnx")]) == 2
    assert ".pth or .safetensors" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "absent.pth"), str(tmp_path / "b.pth")]) == 2
    assert "no such file" in capsys.readouterr().err
