"""Norms of timm's backbones in their convolutions, against the two one after the other."""

import copy
import pickle
from typing import Any

import pytest
import torch
from detectron2.layers import Conv2d
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from solo_family.modeling.inference import prepare_for_inference
from solo_family.modeling.timm_backbone import TimmBackbone
from solo_family.modeling.trained_pairs import fold_for_training, unfold_for_training

from ..conftest import picture, tiny_model
from ..counting import launches

# Depthwise convolutions that pad as TensorFlow does; norms without and with activation; groups.
MODELS = {"tf_efficientnet_lite0": 48, "resnet18": 20, "regnetx_002": 44, "mobilenetv2_050": 51}


def backbone(name: str, freeze: tuple[str, ...] = ()) -> TimmBackbone:
    """Returns a backbone in training, with fixed norms of random values."""
    torch.manual_seed(0)
    features = ["res2", "res3", "res4", "res5"]
    module = TimmBackbone(
        name=name, in_channels=3, out_features=features, weights="", freeze=freeze
    ).train()
    for norm in norms(module):
        norm.eval()
        for tensor in (norm.weight, norm.running_var):
            nn.init.uniform_(tensor, 0.5, 1.5)
        for tensor in (norm.bias, norm.running_mean):
            nn.init.normal_(tensor, std=0.2)
    return module.double()


def norms(module: nn.Module) -> list[Any]:
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


def folded(module: nn.Module) -> int:
    return sum("plain_class" in norm.__dict__ for norm in norms(module))


def results(module: nn.Module, x: Tensor) -> list[Tensor | None]:
    module.zero_grad()
    x = x.clone().requires_grad_()
    output = module(x)
    sum(feature.square().mean() for feature in output.values()).backward()
    return [*output.values(), x.grad, *(parameter.grad for parameter in module.parameters())]


def image() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 64, 96, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "freeze"),
    [
        ("tf_efficientnet_lite0", True),
        ("resnet18", False),
        *(
            pytest.param(name, freeze, marks=pytest.mark.slow)
            for name, freeze in [
                ("tf_efficientnet_lite0", False),
                ("resnet18", True),
                ("regnetx_002", False),
                ("mobilenetv2_050", False),
            ]
        ),
    ],
)
def test_values_and_gradients_are_those_of_two_steps(name: str, freeze: bool) -> None:
    prefixes = {"tf_efficientnet_lite0": ("conv_stem", "bn1", "blocks.0"), "resnet18": ("layer1",)}
    plain = backbone(name, prefixes.get(name, ()) if freeze else ())
    folding = copy.deepcopy(plain)
    fold_for_training(folding, 3, 32)
    assert folded(folding) == MODELS[name]
    assert folding.state_dict().keys() == plain.state_dict().keys()
    for found, expected in zip(results(folding, image()), results(plain, image()), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


def test_without_training_nothing_changes() -> None:
    plain = backbone("tf_efficientnet_lite0")
    folding = copy.deepcopy(plain)
    fold_for_training(folding, 3, 32)
    for one, other in zip(folding.modules(), plain.modules(), strict=True):
        assert one.training == other.training
    with torch.no_grad():
        for found, expected in zip(folding(image()).values(), plain(image()).values()):
            assert torch.equal(found, expected)
    for found, expected in zip(results(folding.eval(), image()), results(plain.eval(), image())):
        assert torch.equal(found, expected)


def test_statistics_that_move_are_left_to_the_norms() -> None:
    plain = backbone("resnet18")
    folding = copy.deepcopy(plain)
    fold_for_training(folding, 3, 32)
    for found, expected in zip(results(folding.train(), image()), results(plain.train(), image())):
        assert torch.equal(found, expected)
    for one, other in zip(norms(folding), norms(plain)):
        assert torch.equal(one.running_mean, other.running_mean)


def test_copies_go_their_own_way() -> None:
    folding = backbone("tf_efficientnet_lite0")
    fold_for_training(folding, 3, 32)
    before = [value.detach() for value in folding(image()).values()]
    for copied in (copy.deepcopy(folding), pickle.loads(pickle.dumps(folding))):
        assert folded(copied) == 48
        with torch.no_grad():
            for norm in norms(copied):
                norm.bias += 0.1
        plain = copy.deepcopy(copied)
        unfold_for_training(plain)
        assert folded(plain) == 0
        for found, expected in zip(results(copied, image()), results(plain, image()), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)
    for found, expected in zip(folding(image()).values(), before):
        assert torch.equal(found, expected)


def test_unfolding_leaves_what_was_there() -> None:
    plain = backbone("tf_efficientnet_lite0")
    folding = copy.deepcopy(plain)
    fold_for_training(folding, 3, 32)
    results(folding, image())
    unfold_for_training(folding)
    for one, other in zip(folding.modules(), plain.modules(), strict=True):
        assert type(one) is type(other)
        assert one.__dict__.keys() == other.__dict__.keys()
    for found, expected in zip(results(folding, image()), results(plain, image()), strict=True):
        assert (found is None) == (expected is None)
        assert found is None or torch.equal(found, expected)


def pair(norm: nn.Module, bias: bool = False) -> nn.Sequential:
    """Returns a convolution and a fixed norm, folded if they can be."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=bias), norm).train()
    nn.init.normal_(norm.bias)
    norm.eval()
    fold_for_training(module, 3, 1)
    return module


class Doubled(nn.BatchNorm2d):
    """Another's norm, which does something else besides."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_what_is_not_known_stays() -> None:
    assert folded(pair(nn.BatchNorm2d(4))) == 1
    for module in (pair(nn.BatchNorm2d(4), bias=True), pair(Doubled(4))):
        assert folded(module) == 0
        assert type(module[0]) is nn.Conv2d
    inner = Conv2d(3, 4, 3, bias=False, norm=nn.BatchNorm2d(4))  # detectron2's, folded elsewhere
    fold_for_training(nn.Sequential(inner), 3, 1)
    assert type(inner.norm) is nn.BatchNorm2d


def test_on_other_devices_norms_stay() -> None:
    module = pair(nn.BatchNorm2d(4)).to("meta")
    x = torch.zeros(1, 3, 8, 8, device="meta")
    assert "batch_norm" in " ".join(launches(lambda: module(x)))


def test_drops_come_before_activations() -> None:
    class Negated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -x

    module = pair(BatchNormAct2d(4, drop_layer=Negated))
    x = torch.randn(1, 3, 8, 8)
    found = module(x)
    unfold_for_training(module)
    torch.testing.assert_close(found, module(x))


@pytest.mark.parametrize("what", ["convolution", "norm"])
def test_a_part_that_was_replaced_is_noticed(what: str) -> None:
    module = pair(nn.BatchNorm2d(4))
    x = torch.randn(1, 3, 8, 8)
    module(x)
    new = nn.Conv2d(3, 4, 3, padding=1) if what == "convolution" else nn.BatchNorm2d(4).eval()
    module[["convolution", "norm"].index(what)] = new
    plain = copy.deepcopy(module)
    unfold_for_training(plain)
    torch.testing.assert_close(module(x), plain(x))


def test_statistics_that_have_moved_are_used() -> None:
    module = pair(nn.BatchNorm2d(4))
    plain = copy.deepcopy(module)
    unfold_for_training(plain)
    x = torch.randn(2, 3, 8, 8)
    for fixes in (True, False, True):
        for one in (module, plain):
            one[1].train(not fixes)
        torch.testing.assert_close(module(x), plain(x))


def test_what_a_hook_makes_of_an_output_is_normed_once() -> None:
    module = pair(nn.BatchNorm2d(4))
    plain = copy.deepcopy(module)
    unfold_for_training(plain)
    x = torch.randn(2, 3, 8, 8)
    for one in (module, plain):
        one[0].register_forward_hook(lambda conv, given, output: output * 2)
    torch.testing.assert_close(module(x), plain(x))


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("kind", ["full_backward_hook", "full_backward_pre_hook", "forward_pre"])
def test_what_a_hook_passes_on_is_normed_once(kind: str, place: int) -> None:
    """torch passes a module with a hook of the backward pass other tensors, and takes others."""
    module = pair(nn.BatchNorm2d(4))
    plain = copy.deepcopy(module)
    unfold_for_training(plain)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    for one in (module, plain):
        if kind == "forward_pre":
            one[place].register_forward_pre_hook(lambda part, given: (given[0] * 2,))
        else:
            getattr(one[place], f"register_{kind}")(lambda *_: None)
    torch.testing.assert_close(module(x), plain(x))


def test_a_convolution_without_gradients_leaves_the_norm_to_the_norm() -> None:
    module = pair(nn.BatchNorm2d(4))
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        output = module[0](x)
        expected = module(x)
    assert torch.equal(module[1](output), expected)


@pytest.mark.parametrize("options", [{}, {"fold_norms": False}, {"optimize": False}])
def test_a_trained_model_becomes_one_for_inference(options: dict[str, Any]) -> None:
    model = tiny_model(
        opts=[
            *("MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.WEIGHTS", ""),
            *("MODEL.TIMM.NAME", "tf_efficientnet_lite0", "MODEL.BACKBONE.NORM_EVAL", True),
        ]
    )
    model.train()([picture()])["loss_class"].backward()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model.eval().backbone(images)
        prepared = prepare_for_inference(model, **{"optimize": True, **options})
        found = prepared.backbone(images)
    assert folded(model) == 48
    assert folded(prepared) == 0
    for name, feature in found.items():
        torch.testing.assert_close(feature, expected[name], rtol=1e-3, atol=1e-4)


def test_the_convolutions_outputs_are_not_kept() -> None:
    def kept(module: nn.Module) -> int:
        maps: dict[int, Tensor] = {}  # which keeps them, so that none gets another's address

        def keep(tensor: Tensor) -> Tensor:
            if tensor.dim() == 4 and len(tensor) == len(image()):
                maps[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = module(image())
        del output
        return sum(tensor.untyped_storage().nbytes() for tensor in maps.values())

    module = backbone("tf_efficientnet_lite0")
    before = kept(module)
    fold_for_training(module, 3, 32)
    assert kept(module) < 0.75 * before


@pytest.mark.parametrize("fixed", [True, False])
def test_models_with_fixed_norms_have_them_folded(fixed: bool) -> None:
    model = tiny_model(
        opts=[
            *("MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.WEIGHTS", ""),
            *("MODEL.TIMM.NAME", "tf_efficientnet_lite0", "MODEL.BACKBONE.NORM_EVAL", fixed),
        ]
    )
    assert folded(model) == 48 * fixed
