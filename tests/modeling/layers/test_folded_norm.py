"""Batch norm folded into a convolution, against the two one after the other, in float64."""

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn

from solo_family.modeling.layers.folded_norm import FoldingConv2d, fold_fixed_norms

from ...conftest import picture, tiny_model
from ...counting import launches


def conv(groups: int = 1, norm: type[nn.Module] = nn.BatchNorm2d) -> Conv2d:
    torch.manual_seed(0)
    module = Conv2d(
        *(4, 6, 3),
        stride=2,
        padding=1,
        bias=False,
        groups=groups,
        norm=norm(6),
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


def fixed(groups: int = 1, norm: type[nn.Module] = nn.BatchNorm2d) -> tuple[Conv2d, Conv2d]:
    """Returns the two one after the other, and the same that folds."""
    plain = conv(groups, norm)
    plain.norm.eval()
    folding = copy.deepcopy(plain)
    fold_fixed_norms(folding)
    assert type(folding) is FoldingConv2d
    return plain, folding


NORMS = pytest.mark.parametrize("norm", [nn.BatchNorm2d, FrozenBatchNorm2d])


@NORMS
@pytest.mark.parametrize("groups", [1, 2])
def test_values_and_gradients_are_those_of_two_steps(groups: int, norm: Any) -> None:
    plain, folding = fixed(groups, norm)
    assert folding.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    for _ in range(2):
        for found, expected in zip(results(folding, x), results(plain, x), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        folding.zero_grad()
        plain.zero_grad()


def test_of_a_norm_without_gradient_one_multiplication_is_left() -> None:
    plain, folding = fixed(norm=FrozenBatchNorm2d)
    plain.float(), folding.float()
    x = torch.randn(2, 4, 9, 7, requires_grad=True)
    folding(x)
    assert launches(lambda: folding(x)) == ["mul", "convolution", "relu_"]
    assert len(launches(lambda: plain(x))) > 8


def test_weights_without_gradient_are_kept_multiplied() -> None:
    plain, folding = fixed(norm=FrozenBatchNorm2d)
    folding.weight.requires_grad_(False)
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(folding(x), plain(x))
    assert launches(lambda: folding(x)) == ["convolution", "relu_"]


@NORMS
@pytest.mark.parametrize("trained", [True, False])
def test_a_change_of_any_value_changes_the_result(norm: Any, trained: bool) -> None:
    plain, folding = fixed(norm=norm)
    if not trained:
        folding.requires_grad_(False)
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    folding(x)
    for name, value in plain.state_dict().items():
        if value.is_floating_point():
            with torch.no_grad():
                value += torch.rand_like(value)
            folding.load_state_dict({**folding.state_dict(), name: value})
            torch.testing.assert_close(folding(x), plain(x), rtol=1e-10, atol=1e-12)
            folding.load_state_dict(plain.state_dict(), assign=True)
            folding.requires_grad_(trained)
            torch.testing.assert_close(folding(x), plain(x), rtol=1e-10, atol=1e-12)
    plain.float(), folding.float()
    torch.testing.assert_close(folding(x.float()), plain(x.float()), rtol=1e-5, atol=1e-5)


@NORMS
def test_copies_go_their_own_way(norm: Any) -> None:
    plain, folding = fixed(norm=norm)
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    before = folding(x).detach()
    # A function that is defined here can't be pickled.
    folding.activation = plain.activation = None
    for copied in (copy.deepcopy(folding), pickle.loads(pickle.dumps(folding))):
        assert "_kept" not in copied.__dict__
        with torch.no_grad():
            copied.norm.weight += 1
        changed = copy.deepcopy(plain)
        changed.norm.load_state_dict(copied.norm.state_dict())
        torch.testing.assert_close(copied(x), changed(x), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(folding(x).relu(), before)


def test_half_precision_is_no_worse_than_in_two_steps() -> None:
    plain, folding = fixed(norm=FrozenBatchNorm2d)
    plain.float(), folding.float()
    x = torch.randn(8, 4, 33, 31)
    exact = plain(x)
    errors = []
    for module in (folding, plain):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = module(x.clone().requires_grad_())
        assert output.dtype == torch.bfloat16
        errors.append((output.float() - exact).square().mean().sqrt())
    assert errors[0] <= errors[1]


def test_statistics_that_move_are_left_to_the_norm() -> None:
    plain = conv()
    folding = copy.deepcopy(plain)
    fold_fixed_norms(folding)
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    for found, expected in zip(results(folding, x), results(plain, x), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(folding.norm.running_mean, plain.norm.running_mean)


def test_statistics_that_have_moved_are_used() -> None:
    """A batch norm writes them without a new version of their tensors."""
    plain, folding = fixed()
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    for weights_train in (False, True):
        for module in (plain, folding):
            module.requires_grad_(weights_train)
        for fixes in (True, False, True):
            for module in (plain, folding):
                module.norm.train(not fixes)
            torch.testing.assert_close(folding(x), plain(x), rtol=1e-10, atol=1e-12)
    plain.norm.train(), folding.norm.train()
    with torch.no_grad():  # as precise batch norm does
        plain(x), folding(x)
    plain.norm.eval(), folding.norm.eval()
    torch.testing.assert_close(folding(x), plain(x), rtol=1e-10, atol=1e-12)


@NORMS
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_weights_that_are_frozen_train_and_are_frozen_again(norm: Any, kind: Any) -> None:
    """A fused optimizer changes them without a new version of their tensors."""
    plain, folding = fixed(norm=norm)
    plain.float(), folding.float()
    x = torch.randn(2, 4, 9, 7)
    optimizers = [kind(module.parameters(), lr=0.1, fused=True) for module in (plain, folding)]
    for trains in (False, True, True, False, True, False):
        outputs = []
        for module, optimizer in zip((plain, folding), optimizers):
            module.requires_grad_(trains)
            outputs.append(module(x))
            if trains:
                outputs[-1].sum().backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)


@NORMS
def test_without_training_nothing_changes(norm: Any) -> None:
    plain, folding = fixed(norm=norm)
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    assert torch.equal(folding.eval()(x), plain.eval()(x))
    with torch.no_grad():
        assert torch.equal(folding.train()(x), plain.train()(x))
    # Not even after training, when something is kept.
    folding.norm.eval()
    folding(x)
    assert torch.equal(folding.eval()(x), plain.eval()(x))


@NORMS
def test_the_convolutions_output_is_not_kept(norm: Any) -> None:
    _, module = fixed(norm=norm)
    x = torch.randn(2, 4, 90, 70, dtype=torch.float64, requires_grad=True)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = module(x)
    # Its own input, what the ReLU gives, and weights.
    assert sum(kept.values()) < x.nbytes + output.nbytes + 3 * module.weight.nbytes


@pytest.mark.parametrize(
    ("method", "opts"),
    [
        ("SOLOv2", ["MODEL.BACKBONE.NORM_EVAL", True]),
        ("SparseInst", ["MODEL.RESNETS.NORM", "FrozenBN"]),
        ("MaskFormer", ["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.BACKBONE.FREEZE_AT", 2]),
    ],
)
def test_a_model_with_fixed_statistics_trains_alike(
    method: str, opts: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> list[Tensor | None]:
        model = tiny_model(method, opts=opts).double()
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
    monkeypatch.setattr("solo_family.modeling.base.fold_fixed_norms", lambda module: None)
    for one, other in zip(found, run(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
