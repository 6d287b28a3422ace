"""A name stands for the same model wherever it is given: its config, its weights, its commit."""

from pathlib import Path

import pytest
from detectron2.checkpoint import DetectionCheckpointer

from solo_family.checkpoint.load import check_weights_file, load_weights
from solo_family.config import setup_cfg
from solo_family.engine.arguments import argument_parser
from solo_family.engine.main import read_config
from solo_family.errors import ConfigError, DataError
from solo_family.fetch import table
from solo_family.fetch.names import weights_file
from solo_family.weight_files import read_weights

from ..coco_folder import small_dataset
from ..conftest import tiny_cfg, tiny_model
from .server import Files, Hub
from .tables import write_table

NAME = "SOLOv2/solov2_R50_3x.yaml"
CPU = ["MODEL.DEVICE", "cpu"]
COMMIT = "a" * 40
DATA = b"weights " * 1000


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLO_FAMILY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "theirs"))
    for name in ("SOLO_FAMILY_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def config_text(weights: str) -> bytes:
    return f"MODEL:\n  META_ARCHITECTURE: SOLOv2\n  WEIGHTS: {weights!r}\n".encode()


def test_a_config_of_the_zoo_has_its_published_weights_but_for_training() -> None:
    assert f"zoo:{NAME}" == setup_cfg(f"zoo:{NAME}", CPU).MODEL.WEIGHTS
    of_training = setup_cfg(f"zoo:{NAME}", CPU, trained=False)
    assert of_training == setup_cfg(f"solo_family://{NAME}", CPU)
    assert "://" in of_training.MODEL.WEIGHTS
    assert setup_cfg(f"zoo:{NAME}", [*CPU, "MODEL.WEIGHTS", ""]).MODEL.WEIGHTS == ""


def test_training_with_a_name_of_the_zoo_begins_as_the_authors_did(tmp_path: Path) -> None:
    data = small_dataset(tmp_path).name
    words = ["--config-file", f"zoo:{NAME}", *CPU, "MODEL.SOLOV2.NUM_CLASSES", "0"]
    words += ["DATASETS.TRAIN", f"('{data}',)", "DATASETS.TEST", f"('{data}',)"]
    assert read_config(argument_parser().parse_args(words)).MODEL.WEIGHTS.endswith("R-50.pkl")
    tested = argument_parser().parse_args(["--eval-only", *words])
    assert f"zoo:{NAME}" == read_config(tested).MODEL.WEIGHTS


@pytest.mark.parametrize("words", [("zoo:SOLOv2/solov2_R5_3x.yaml",), (f"zoo:{NAME}", "zoo:x")])
def test_a_name_that_the_zoo_has_not_is_answered_with_the_nearest(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"The most similar name is \w+/.+\.yaml; docs/model_zoo"):
        setup_cfg(words[0], [*CPU, *(("MODEL.WEIGHTS", words[1]) if words[1:] else ())])


def test_weights_of_the_zoo_are_fetched_once_offline_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Files({"/a/weights.pth": DATA}) as server:
        place = {"weights": f"{server.address}/a/weights.pth", "checksum": server.checksum(DATA)}
        monkeypatch.setattr(table, "TABLE", write_table(tmp_path / "zoo.csv", NAME, **place))
        monkeypatch.setenv("SOLO_FAMILY_OFFLINE", "1")
        with pytest.raises(
            DataError, match=r"weights\.pth is not in the cache .*OFFLINE=1 forbids"
        ):
            check_weights_file(f"zoo:{NAME}")
        assert server.requests == []
        monkeypatch.delenv("SOLO_FAMILY_OFFLINE")
        path = weights_file(f"zoo:{NAME}")
    assert path.read_bytes() == DATA
    monkeypatch.setenv("SOLO_FAMILY_OFFLINE", "1")
    assert weights_file(f"zoo:{NAME}") == path
    with pytest.raises(DataError, match=r"has no published weights .*Give other weights"):
        weights_file("zoo:InstanceFCN/instance_fcn_R50_COCO_k5.yaml")


@pytest.mark.parametrize(
    ("name", "written", "weights"),
    [
        ("hf:me/model", "model.safetensors", "hf:me/model/model.safetensors@{}"),
        ("hf:me/model/sub", "best.pth", "hf:me/model/sub/best.pth@{}"),
        ("hf:me/model/sub/other.yaml@main", "best.pth", "hf:me/model/sub/best.pth@{}"),
        # As a run writes them: of what it began with. Its own weights have a usual name.
        ("hf:me/model", "", "hf:me/model@{}"),
        ("hf:me/model", "/somewhere/model.pth", "hf:me/model@{}"),
        ("hf:me/model", "weights/r50.pkl", "hf:me/model@{}"),
        ("hf:me/model/sub", f"zoo:{NAME}", "hf:me/model/sub@{}"),
    ],
)
def test_a_config_of_the_hub_has_the_weights_of_its_commit(
    name: str, written: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = config_text(written)
    files = {"config.yaml": text, "sub/config.yaml": text, "sub/other.yaml": text}
    with Hub({"me/model": files}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        cfg = setup_cfg(name, CPU)
    assert weights.format(COMMIT) == cfg.MODEL.WEIGHTS
    assert len(server.requests) == 1  # no weights yet


def test_weights_of_a_repository_have_a_usual_name(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"model_final.pth": DATA, "b/model.safetensors": DATA[1:], "b/model_final.pth": b""}
    with Hub({"me/model": files, "me/empty": {"config.yaml": b""}}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        assert weights_file("hf:me/model").read_bytes() == DATA
        assert weights_file("hf:me/model/b").read_bytes() == DATA[1:]
        with pytest.raises(DataError, match=r"neither model\.safetensors nor model_final\.pth"):
            weights_file("hf:me/empty")
        with pytest.raises(DataError, match=r"no file config\.yaml.* publish` writes it"):
            setup_cfg("hf:me/model")
        with pytest.raises(ConfigError, match=r"is no config\. .*in MODEL\.WEIGHTS"):
            setup_cfg("hf:me/model/model_final.pth")
        with pytest.raises(ConfigError, match=r"Write hf:OWNER/REPO"):
            setup_cfg(f"zoo:{NAME}", ["MODEL.WEIGHTS", "hf:model"])


def test_named_weights_are_loaded_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors.torch import save_file

    model = tiny_model()
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    with Hub({"me/model": {"a.safetensors": data}}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        other = tiny_model()
        torch.nn.init.zeros_(next(other.parameters()))
        load_weights(DetectionCheckpointer(other), "hf:me/model/a.safetensors", complete=True)
        read = read_weights("hf:me/model/a.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
        assert torch.equal(value, read[name]), name


def test_weights_beside_a_config_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    config = there / "config.yaml"
    config.write_bytes(config_text("model.safetensors"))
    assert setup_cfg(str(config), CPU).MODEL.WEIGHTS == "model.safetensors"
    (there / "model.safetensors").touch()
    assert str(there / "model.safetensors") == setup_cfg(str(config), CPU).MODEL.WEIGHTS
    given = ["MODEL.WEIGHTS", "other.pth"]
    assert setup_cfg(str(config), [*CPU, *given]).MODEL.WEIGHTS == "other.pth"
    (here / "model.safetensors").touch()
    with pytest.raises(ConfigError, match=r"beside it and in the current folder\. Give the whole"):
        setup_cfg(str(config), CPU)
    monkeypatch.chdir(there)
    assert setup_cfg("config.yaml", CPU).MODEL.WEIGHTS == "model.safetensors"


def test_a_plain_path_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **options: 1 / 0)
    cfg = tiny_cfg(opts=["MODEL.WEIGHTS", "/nonexistent/model.pth"])
    with pytest.raises(DataError, match="there is no such file"):
        check_weights_file(cfg.MODEL.WEIGHTS)
