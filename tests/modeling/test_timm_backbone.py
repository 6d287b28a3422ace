from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from detectron2.layers import batch_norm
from torch import Tensor, nn

from solo_family.errors import ConfigError
from solo_family.modeling.timm_backbone import TimmBackbone
from solo_family.modeling.timm_models.pyramid import make_level

from ..conftest import picture, tiny_model
from ..fetch.server import Hub

EVERY_FEATURE = ["res1", "res2", "res3", "res4", "res5"]


def make_backbone(
    name: str = "resnet18", out_features: list[str] | None = None, weights: str = ""
) -> TimmBackbone:
    features = EVERY_FEATURE[1:] if out_features is None else out_features
    return TimmBackbone(name=name, in_channels=3, out_features=features, weights=weights)


def write_checkpoint(path: Path, name: str) -> dict[str, Tensor]:
    """Writes random weights under timm's names, the classifier's too."""
    torch.manual_seed(1)
    state = timm.create_model(name).state_dict()
    for value in state.values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value))
    torch.save(state, path)
    return state


@pytest.mark.parametrize(
    ("name", "channels"),
    [("tf_efficientnet_lite0", [16, 24, 40, 112, 320]), ("resnet18", [64, 64, 128, 256, 512])],
)
def test_features_are_named_by_stride(name: str, channels: list[int]) -> None:
    backbone = make_backbone(name, EVERY_FEATURE)
    shapes = backbone.output_shape()
    assert list(shapes) == EVERY_FEATURE
    assert [shape.stride for shape in shapes.values()] == [2, 4, 8, 16, 32]
    assert [shape.channels for shape in shapes.values()] == channels
    with torch.no_grad():
        outputs = backbone.eval()(torch.zeros(2, 3, 64, 96))
    for feature, shape in shapes.items():
        size = (64 // shape.stride, 96 // shape.stride)
        assert outputs[feature].shape == (2, shape.channels, *size)


def test_the_order_of_the_features_does_not_matter() -> None:
    backbone = make_backbone(out_features=["res5", "res3"]).eval()
    with torch.no_grad():
        outputs = backbone(torch.zeros(1, 3, 64, 64))
    assert {name: value.shape[1] for name, value in outputs.items()} == {"res3": 128, "res5": 512}


def test_an_unknown_model_is_an_error_that_names_others() -> None:
    with pytest.raises(ConfigError, match=r"MODEL\.TIMM\.NAME is 'resnet_18'.*resnet18"):
        make_backbone("resnet_18")


def test_an_unknown_feature_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"OUT_FEATURES has res7; resnet18 provides res1, res2"):
        make_backbone(out_features=["res2", "res7"])


def test_a_missing_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"MODEL\.TIMM\.WEIGHTS .*gone\.pth: there is no such"):
        make_backbone(weights=str(tmp_path / "gone.pth"))


@pytest.mark.parametrize(
    ("written", "built"),
    [
        pytest.param("resnet10t", "resnet14t", id="too few layers"),
        pytest.param("resnet14t", "resnet10t", id="too many layers"),
        pytest.param("resnet14t", "resnet18", id="other shapes"),
        pytest.param("test_efficientnet", "resnet10t", id="other names"),
    ],
)
def test_a_checkpoint_of_another_model_is_an_error(
    written: str, built: str, tmp_path: Path
) -> None:
    path = tmp_path / "other.pth"
    torch.save(timm.create_model(written).state_dict(), path)
    with pytest.raises(ConfigError, match=r"MODEL\.TIMM\.WEIGHTS .*a model other than"):
        make_backbone(built, weights=str(path))


# timm renames the nested layers of some models, convnext among them, where it gives features only.
@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "convnext_atto"])
def test_weights_are_loaded(name: str, tmp_path: Path) -> None:
    state = write_checkpoint(tmp_path / "weights.pth", name)
    backbone = make_backbone(name, weights=str(tmp_path / "weights.pth"))
    loaded = backbone.model.state_dict()
    by_name = {key.replace(".", "_"): value for key, value in state.items()}
    assert len(loaded) > 50
    for key, value in loaded.items():
        assert torch.equal(value, by_name[key.replace(".", "_")]), key


def test_weights_are_those_of_the_model_that_timm_builds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = timm.create_model("resnet18")
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    backbone = make_backbone(weights=str(tmp_path / "weights.pth")).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = whole.eval().forward_features(image)
        torch.testing.assert_close(backbone(image)["res5"], expected)


def test_weights_of_the_hub_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = write_checkpoint(tmp_path / "weights.pth", "resnet18")
    monkeypatch.setenv("SOLO_FAMILY_CACHE", str(tmp_path / "cache"))
    with Hub({"me/r18": {"r18.pth": (tmp_path / "weights.pth").read_bytes()}}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        backbone = make_backbone(out_features=["res2"], weights="hf:me/r18/r18.pth")
    assert torch.equal(backbone.model.state_dict()["conv1.weight"], state["conv1.weight"])


@pytest.mark.parametrize("without", ["classifier", "nothing but the features asked for"])
def test_only_the_needed_weights_are_needed(without: str, tmp_path: Path) -> None:
    state = write_checkpoint(tmp_path / "weights.pth", "resnet18")
    if without == "classifier":
        state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    torch.save(state, tmp_path / "weights.pth")
    backbone = make_backbone(out_features=["res2", "res3"], weights=str(tmp_path / "weights.pth"))
    assert torch.equal(backbone.model.state_dict()["conv1.weight"], state["conv1.weight"])


def test_a_checkpoint_of_the_whole_model_takes_precedence() -> None:
    keys = [
        *("MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", "resnet18"),
        *("MODEL.TIMM.WEIGHTS", "no/such/file.pth"),
    ]
    with pytest.raises(ConfigError):
        tiny_model(opts=keys)
    tiny_model(opts=[*keys, "MODEL.WEIGHTS", "model.pth"])


def fpn_model(norm_eval: bool = False, name: str = "tf_efficientnet_lite0") -> nn.Module:
    return tiny_model(
        opts=[
            *("MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", name),
            *("MODEL.BACKBONE.NORM_EVAL", norm_eval),
        ]
    )


def test_the_pyramid_has_p2_to_p6() -> None:
    shapes = fpn_model().backbone.output_shape()
    assert {name: shape.stride for name, shape in shapes.items()} == {
        "p2": 4,
        "p3": 8,
        "p4": 16,
        "p5": 32,
        "p6": 64,
    }
    assert {shape.channels for shape in shapes.values()} == {16}


@pytest.mark.parametrize("norm_eval", [True, False])
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18"])
def test_norm_eval_keeps_statistics_and_trains_weights(name: str, norm_eval: bool) -> None:
    model = fpn_model(norm_eval, name)
    layers = {
        key: module
        for key, module in model.backbone.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    assert len(layers) >= 20
    for layer in layers.values():
        nn.init.ones_(layer.weight)  # timm's ResNets start some at 0, which stops gradients
    before = {
        key: (layer.running_mean.clone(), layer.running_var.clone())
        for key, layer in layers.items()
    }
    for mode in (False, True):
        model.train(mode)
        assert model.training == mode
        assert {layer.training for layer in layers.values()} == {mode and not norm_eval}
    assert model.head.training
    sum(model([picture(), picture(seed=1)]).values()).backward()
    for key, layer in layers.items():
        mean, var = before[key]
        kept = torch.equal(layer.running_mean, mean) and torch.equal(layer.running_var, var)
        assert kept == norm_eval, key
        for parameter in (layer.weight, layer.bias):
            assert parameter.requires_grad
            assert parameter.grad is not None, key
            assert parameter.grad.abs().sum() > 0, key


def test_frozen_stages_get_no_gradient_and_the_others_do() -> None:
    frozen = ("conv1", "bn1", "layer1")
    backbone = TimmBackbone(
        name="resnet18", in_channels=3, out_features=EVERY_FEATURE[1:], weights="", freeze=frozen
    )
    sum(feature.sum() for feature in backbone(torch.rand(2, 3, 32, 32)).values()).backward()
    for name, parameter in backbone.model.named_parameters():
        assert (parameter.grad is None) == name.startswith(frozen), name


def test_freezing_an_unknown_part_names_the_parts() -> None:
    with pytest.raises(ConfigError, match=r"FREEZE has 'layer9'.*conv1.*layer1"):
        TimmBackbone(
            name="resnet18", in_channels=3, out_features=["res2"], weights="", freeze=["layer9"]
        )


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
def test_a_dilated_model_gives_its_deepest_layer_at_stride_8(name: str) -> None:
    options: dict[str, Any] = {"in_channels": 3, "out_features": ["res3"], "weights": ""}
    plain = TimmBackbone(name=name, **(options | {"out_features": ["res5"]}))
    dilated = TimmBackbone(name=name, output_stride=8, **options).eval()
    (shape,) = dilated.output_shape().values()
    assert (shape.stride, shape.channels) == (8, plain.output_shape()["res5"].channels)
    with torch.no_grad():
        assert dilated(torch.zeros(1, 3, 64, 96))["res3"].shape == (1, shape.channels, 8, 12)
    assert set(dilated.state_dict()) == set(plain.state_dict())


@pytest.mark.parametrize(
    ("name", "features", "divisibility"),
    [
        ("resnet18", EVERY_FEATURE, 0),
        ("test_vit", EVERY_FEATURE[1:], 32),
        ("test_vit", ["res4"], 16),
    ],
)
def test_only_maps_that_are_made_need_sides_of_their_multiples(
    name: str, features: list[str], divisibility: int
) -> None:
    assert make_backbone(name, features).size_divisibility == divisibility


def test_an_older_detectron2_has_a_layer_norm_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As version 0.6, which has none of its own."""
    monkeypatch.delattr(batch_norm, "LayerNorm", raising=False)
    norm = make_level(8, stride=16, wanted=4)[0][1]
    x = torch.rand(2, 4, 3, 5)
    expected = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
    torch.testing.assert_close(norm(x), expected)
