"""Batch norm folded into a convolution, against the two one after the other, in float64."""

import copy

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import Tensor, nn

from solo_family.layers.folded_norm import FoldingConv2d, fold_fixed_norms

from ..conftest import picture, tiny_model


def conv(groups: int = 1) -> Conv2d:
    torch.manual_seed(0)
    module = Conv2d(
        *(4, 6, 3),
        stride=2,
        padding=1,
        bias=False,
        groups=groups,
        norm=nn.BatchNorm2d(6),
        activation=F.relu_,
    ).double()
    for tensor in (module.norm.weight, module.norm.bias, module.norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(module.norm.running_var, 0.1, 2)
    return module.train()


def results(module: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    output = module(x)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).double()
    (output * weights).sum().backward()
    return [output, x.grad, *(parameter.grad for parameter in module.parameters())]


@pytest.mark.parametrize("groups", [1, 2])
def test_values_and_gradients_are_those_of_two_steps(groups: int) -> None:
    plain = conv(groups)
    plain.norm.eval()
    folding = copy.deepcopy(plain)
    fold_fixed_norms(folding)
    assert type(folding) is FoldingConv2d
    assert folding.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    for found, expected in zip(results(folding, x), results(plain, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_statistics_that_move_are_left_to_the_norm() -> None:
    plain = conv()
    folding = copy.deepcopy(plain)
    fold_fixed_norms(folding)
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    for found, expected in zip(results(folding, x), results(plain, x), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(folding.norm.running_mean, plain.norm.running_mean)


def test_without_training_nothing_changes() -> None:
    plain = conv()
    folding = copy.deepcopy(plain)
    fold_fixed_norms(folding)
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    assert torch.equal(folding.eval()(x), plain.eval()(x))
    with torch.no_grad():
        assert torch.equal(folding.train()(x), plain.train()(x))


def test_the_convolutions_output_is_not_kept() -> None:
    module = conv()
    module.norm.eval()
    fold_fixed_norms(module)
    x = torch.randn(2, 4, 90, 70, dtype=torch.float64, requires_grad=True)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = module(x)
    # Its own input, what the ReLU gives, and weights.
    assert sum(kept.values()) < x.nbytes + output.nbytes + 3 * module.weight.nbytes


def test_a_model_with_fixed_statistics_trains_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> list[Tensor]:
        model = tiny_model("SOLOv2", opts=["MODEL.BACKBONE.NORM_EVAL", True]).double()
        inputs = [picture(seed=1), picture(seed=2, objects=0)]
        images = model.preprocess([item["image"] for item in inputs]).tensor.double()
        features = model.train().backbone(images)
        sum(feature.square().sum() for feature in features.values()).backward()
        folding = sum(type(module) is FoldingConv2d for module in model.modules())
        assert folding == expected
        return [parameter.grad for parameter in model.backbone.parameters()]

    expected = 53
    found = run()
    expected = 0
    monkeypatch.setattr("solo_family.modeling.meta_arch.grid.fold_fixed_norms", lambda module: None)
    for one, other in zip(found, run(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
