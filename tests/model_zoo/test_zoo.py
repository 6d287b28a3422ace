"""The table of models, its document, and `get` with a server of this machine."""

from pathlib import Path

import pytest
import torch

from solo_family import model_zoo
from solo_family.config import setup_cfg
from solo_family.data.formats.classes import num_classes
from solo_family.errors import ConfigError, DataError
from solo_family.fetch import table
from solo_family.fetch.table import read_table
from solo_family.model_zoo.document import document
from solo_family.predictor.load import load_predictor
from solo_family.registry import METHODS

from ..checkpoint.lists import random_weights, save
from ..conftest import ROOT
from ..fetch.server import Files
from ..fetch.tables import write_table

NAME = "SOLOv2/solov2_R50_1x.yaml"


def test_every_config_that_is_no_base_is_listed() -> None:
    configs = {
        path.relative_to(ROOT / "configs").as_posix()
        for path in (ROOT / "configs").glob("**/*.yaml")
        if not path.name.startswith("Base-")
    }
    assert set(model_zoo.list()) == configs


@pytest.mark.slow
def test_every_config_is_read_and_those_with_weights_need_no_dataset() -> None:
    for name, entry in read_table().items():
        cfg = setup_cfg(f"zoo:{name}", ["MODEL.DEVICE", "cpu"])
        method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)  # none of the per-pixel baselines
        if entry.weights and method is not None:
            assert num_classes(cfg, method.num_classes_key) > 0


@pytest.mark.parametrize(
    ("name", "metric", "value"),
    [
        ("SOLO/solo_R50_3x.yaml", "AP", "35.8"),
        ("SOLOv2/solov2_X101_DCN_3x.yaml", "AP", "42.4"),
        ("SparseInst/sparse_inst_r50vd_dcn_giam_aug.yaml", "AP", "37.4"),
        ("MaskFormer/ade20k-150/maskformer_R50_bs16_160k.yaml", "mIoU", "44.5"),
        ("MaskFormer/coco-panoptic/maskformer_panoptic_R50_bs64_554k.yaml", "PQ", "46.5"),
        ("InstanceFCN/instance_fcn_VGG16_COCO_k5.yaml", "AR@10/100/1000", "16.6/31.7/39.2"),
    ],
)
def test_the_numbers_are_the_published_ones(name: str, metric: str, value: str) -> None:
    entry = read_table()[name]
    assert (entry.metric, entry.published) == (metric, value)


def test_the_document_is_current() -> None:
    text = (ROOT / "docs" / "model_zoo.md").read_text()
    assert text == document(), "python -m solo_family.model_zoo.document docs/model_zoo.md"


def test_get_downloads_converts_and_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random_weights("official_solov2")
    # As many classes as the config's dataset has.
    weights["bbox_head.solo_cate.weight"] = torch.zeros(80, 64, 3, 3)
    weights["bbox_head.solo_cate.bias"] = torch.zeros(80)
    data = save(tmp_path / "theirs.pth", weights).read_bytes()
    monkeypatch.setenv("SOLO_FAMILY_CACHE", str(tmp_path / "cache"))
    with Files({"/SOLOv2_R50_1x.pth": data}) as server:
        place = {"weights": f"{server.address}/SOLOv2_R50_1x.pth"}
        place["checksum"] = server.checksum(data)
        monkeypatch.setattr(table, "TABLE", write_table(tmp_path / "zoo.csv", NAME, **place))
        model = model_zoo.get(NAME)
        model_zoo.get(NAME)
        cfg = setup_cfg(f"zoo:{NAME}", ["MODEL.DEVICE", "cpu"])
        of_the_verbs = load_predictor(cfg, as_trained=True).model
    assert len(server.requests) == 1  # the second time it is in the cache
    loaded = model.state_dict()["head.kernel_predictor.weight"]
    assert torch.equal(loaded.cpu(), weights["bbox_head.solo_kernel.weight"])
    assert not model.training
    for name, value in of_the_verbs.state_dict().items():
        assert torch.equal(value, model.state_dict()[name].cpu()), name


def test_get_without_weights_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert not model_zoo.get("SOLOv2/solov2_Light_448_R18_3x.yaml", trained=False).training


def test_weights_that_nobody_hosts_are_said_so() -> None:
    with pytest.raises(DataError, match="Google Drive"):
        model_zoo.get("SparseInst/sparse_inst_r50_giam.yaml")
    with pytest.raises(ConfigError, match=r"model_zoo\.list"):
        model_zoo.get("SOLO/solo_R51.yaml")
