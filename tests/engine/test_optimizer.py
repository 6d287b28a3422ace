"""Optimizers, their parameter groups, and clipping, computed again by hand."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from solo_family.engine import optimizer as optimizer_module
from solo_family.engine.optimizer import build_optimizer
from solo_family.errors import ConfigError

from ..conftest import tiny_cfg
from ..waits import count_waits

NORMS = (nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


class Model(nn.Module):
    """A backbone and a head, each with a norm; names are all that the optimizer looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4))


def build(*opts: Any) -> tuple[Model, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Model()
    return model, build_optimizer(tiny_cfg(opts=list(opts)), model)


def group_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, Any]:
    (group,) = [g for g in optimizer.param_groups if any(p is parameter for p in g["params"])]
    return group


def test_solov2s_own_is_sgd() -> None:
    model, optimizer = build("SOLVER.BASE_LR", 0.02, "SOLVER.WEIGHT_DECAY", 3e-4)
    assert type(optimizer) is torch.optim.SGD
    for parameter in model.parameters():
        group = group_of(optimizer, parameter)
        assert (group["lr"], group["momentum"], group["nesterov"]) == (0.02, 0.9, False)
    assert group_of(optimizer, model.head[0].weight)["weight_decay"] == 3e-4


def test_sparseinsts_own_is_adamw_without_decay_of_norms() -> None:
    """Norms of any name: the official code spares parameters named "norm", and decays "bn"."""
    torch.manual_seed(0)
    model = Model()
    cfg = tiny_cfg("SparseInst", opts=["SOLVER.BASE_LR", 5e-5, "SOLVER.WEIGHT_DECAY", 0.05])
    optimizer = build_optimizer(cfg, model)
    assert type(optimizer) is torch.optim.AdamW
    assert {group["lr"] for group in optimizer.param_groups} == {5e-5}
    for norm, conv in ((model.backbone[1], model.backbone[0]), (model.head[1], model.head[0])):
        assert group_of(optimizer, norm.weight)["weight_decay"] == 0
        assert group_of(optimizer, norm.bias)["weight_decay"] == 0
        assert group_of(optimizer, conv.weight)["weight_decay"] == 0.05


@pytest.mark.parametrize("amsgrad", [False, True])
def test_the_official_spelling_and_amsgrad(amsgrad: bool) -> None:
    _, optimizer = build("SOLVER.OPTIMIZER", "ADAMW", "SOLVER.AMSGRAD", amsgrad)
    assert type(optimizer) is torch.optim.AdamW
    assert all(group["amsgrad"] == amsgrad for group in optimizer.param_groups)


def test_sgds_keys() -> None:
    keys = ["SOLVER.OPTIMIZER", "SGD", "SOLVER.MOMENTUM", 0.8, "SOLVER.NESTEROV", True]
    _, optimizer = build(*keys)
    assert all((g["momentum"], g["nesterov"]) == (0.8, True) for g in optimizer.param_groups)


def test_adamw() -> None:
    keys = ["SOLVER.OPTIMIZER", "AdamW", "SOLVER.BASE_LR", 1e-4, "SOLVER.WEIGHT_DECAY", 0.05]
    model, optimizer = build(*keys)
    assert type(optimizer) is torch.optim.AdamW
    group = group_of(optimizer, model.head[0].weight)
    assert (group["lr"], group["weight_decay"]) == (1e-4, 0.05)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_the_multiplier_is_the_backbones_alone(name: str) -> None:
    keys = ["SOLVER.OPTIMIZER", name, "SOLVER.BASE_LR", 0.5, "SOLVER.BACKBONE_MULTIPLIER", 0.1]
    model, optimizer = build(*keys)
    assert {group_of(optimizer, p)["lr"] for p in model.backbone.parameters()} == {0.05}
    assert {group_of(optimizer, p)["lr"] for p in model.head.parameters()} == {0.5}


def test_a_multiplier_of_zero_is_the_methods_own() -> None:
    model, optimizer = build("SOLVER.BASE_LR", 0.5, "SOLVER.BACKBONE_MULTIPLIER", 0.0)
    assert {group_of(optimizer, p)["lr"] for p in model.parameters()} == {0.5}


def test_decay_of_norms_and_biases_has_keys_of_its_own() -> None:
    model, optimizer = build(
        *("SOLVER.WEIGHT_DECAY", 0.01, "SOLVER.WEIGHT_DECAY_NORM", 0.02),
        *("SOLVER.WEIGHT_DECAY_BIAS", 0.03, "SOLVER.BIAS_LR_FACTOR", 2.0, "SOLVER.BASE_LR", 0.1),
    )
    for module in (*model.backbone, *model.head):
        if isinstance(module, NORMS):
            assert group_of(optimizer, module.weight)["weight_decay"] == 0.02
        else:
            assert group_of(optimizer, module.weight)["weight_decay"] == 0.01
            bias = group_of(optimizer, module.bias)
            assert (bias["weight_decay"], bias["lr"]) == (0.03, 0.2)


def test_named_parameters_do_not_decay() -> None:
    model, optimizer = build(
        *("SOLVER.WEIGHT_DECAY", 0.01, "SOLVER.WEIGHT_DECAY_NORM", 0.02),
        *("SOLVER.NO_DECAY_NAMES", ("backbone.0", "head.1.w")),
    )
    for name, parameter in model.named_parameters():
        spared = "backbone.0" in name or "head.1.w" in name
        assert (group_of(optimizer, parameter)["weight_decay"] == 0) == spared, name
    with pytest.raises(ConfigError, match=r"NO_DECAY_NAMES has 'nothing'.*backbone\.0\.bias"):
        build("SOLVER.NO_DECAY_NAMES", ("nothing",))


def test_frozen_parameters_are_left_out() -> None:
    model = Model()
    model.backbone[0].requires_grad_(False)
    optimizer = build_optimizer(tiny_cfg(), model)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == 6


def step(clip_type: str, bound: float, scale: float = 1.0) -> tuple[list[Tensor], list[Tensor]]:
    """Returns gradients before the step, and as the step saw them: SGD of rate 1 subtracts them."""
    model, optimizer = build(
        *("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", clip_type),
        *("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", bound, "SOLVER.BASE_LR", 1.0),
        *("SOLVER.MOMENTUM", 0.0, "SOLVER.WEIGHT_DECAY", 0.0),
    )
    for parameter in model.parameters():
        parameter.grad = scale * torch.randn(parameter.shape)
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer.step()
    return gradients, [old - new.detach() for old, new in zip(before, model.parameters())]


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
@pytest.mark.parametrize("saved_fused", [False, True])
def test_a_checkpoint_of_another_implementation_goes_on(
    name: str, saved_fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a GPU to a CPU and back; on a CPU both implementations are there."""

    def one(fused: bool) -> tuple[Model, torch.optim.Optimizer]:
        monkeypatch.setattr(optimizer_module, "_can_fuse", lambda cfg, model: fused)
        model, optimizer = build("SOLVER.OPTIMIZER", name, "SOLVER.BASE_LR", 0.1)
        assert all(bool(group["fused"]) == fused for group in optimizer.param_groups)
        return model, optimizer

    def take_step(model: Model, optimizer: torch.optim.Optimizer, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()

    model, optimizer = one(saved_fused)
    take_step(model, optimizer, 0)
    other_model, other = one(not saved_fused)
    other_model.load_state_dict(model.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert all(bool(group["fused"]) != saved_fused for group in other.param_groups)
    take_step(model, optimizer, 1)
    take_step(other_model, other, 1)
    for expected, found in zip(model.parameters(), other_model.parameters()):
        torch.testing.assert_close(found, expected)


def test_a_cpus_parameters_are_updated_by_fused_kernels_but_for_float16() -> None:
    float16 = ["SOLVER.AMP.ENABLED", "True"]
    for opts, fused in (
        ([], True),
        (float16, False),
        ([*float16, "SOLVER.AMP.PRECISION", "bfloat16"], True),
    ):
        optimizer = build_optimizer(tiny_cfg(opts=opts), Model())
        assert all(bool(group["fused"]) == fused for group in optimizer.param_groups)


def test_weights_that_get_their_first_gradient_later_are_updated_too() -> None:
    """As those of masks after a batch without objects; torch's fused SGD raises a TypeError."""
    model, optimizer = build("SOLVER.OPTIMIZER", "SGD", "SOLVER.CLIP_GRADIENTS.ENABLED", False)
    assert all(group["fused"] and group["momentum"] for group in optimizer.param_groups)
    early, *late = model.parameters()
    early.grad = torch.ones_like(early)
    optimizer.step()
    before = [parameter.detach().clone() for parameter in late]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for parameter, old in zip(late, before):
        rate, decay = next(
            (group["lr"], group["weight_decay"])
            for group in optimizer.param_groups
            if any(other is parameter for other in group["params"])
        )
        torch.testing.assert_close(parameter.detach(), old - rate * (1 + decay * old))
    buffer = optimizer.state[early]["momentum_buffer"]
    assert buffer.mean() > 1  # the momentum of both steps


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
@pytest.mark.parametrize("last", [False, True])
def test_averages_of_another_order_in_memory_go_on(name: str, last: bool) -> None:
    """As of a run that goes on with another SOLVER.CHANNELS_LAST."""
    orders = (torch.contiguous_format, torch.channels_last)

    def one(is_last: bool) -> tuple[nn.Conv2d, torch.optim.Optimizer]:
        torch.manual_seed(0)
        conv: Any = nn.Conv2d(3, 4, 3)
        conv.to(memory_format=orders[is_last])
        opts = ["SOLVER.OPTIMIZER", name, "SOLVER.BASE_LR", 0.1]
        return conv, build_optimizer(tiny_cfg(opts=opts), conv)

    (conv, optimizer), (other_conv, other) = one(last), one(not last)
    conv(torch.randn(1, 3, 5, 5)).square().sum().backward()
    optimizer.step()
    other_conv.load_state_dict(conv.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    picture = torch.randn(1, 3, 5, 5)
    for model, its_optimizer in ((conv, optimizer), (other_conv, other)):
        its_optimizer.zero_grad()
        model(picture).square().sum().backward()
        its_optimizer.step()
    torch.testing.assert_close(other_conv.weight.detach(), conv.weight.detach())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_parameters_are_updated_by_fused_kernels() -> None:
    optimizer = build_optimizer(tiny_cfg(), Model().cuda())
    assert all(group["fused"] for group in optimizer.param_groups)


@pytest.mark.parametrize("clip_type", ["norm", "full_model", "value"])
def test_clipping_waits_for_nothing(clip_type: str) -> None:
    with count_waits() as waits:
        step(clip_type, 0.7)
    assert not waits.where


def norm(*tensors: Tensor) -> float:
    return math.sqrt(sum(float(value) ** 2 for tensor in tensors for value in tensor.flatten()))


def test_full_model_clips_the_norm_of_all_gradients_together() -> None:
    gradients, applied = step("full_model", 0.7)
    assert norm(*gradients) > 0.7
    assert norm(*applied) == pytest.approx(0.7, abs=1e-5)
    for gradient, change in zip(gradients, applied):
        torch.testing.assert_close(change, gradient * (0.7 / norm(*gradients)))


def test_gradients_within_the_bound_are_left_alone() -> None:
    gradients, applied = step("full_model", 1.0, scale=1e-2)
    assert norm(*gradients) < 1.0
    for gradient, change in zip(gradients, applied):
        torch.testing.assert_close(change, gradient, atol=1e-6, rtol=0)


def test_norm_clips_every_parameter_by_itself() -> None:
    gradients, applied = step("norm", 0.7)
    assert norm(*applied) > 0.7
    for gradient, change in zip(gradients, applied):
        expected = gradient * min(1.0, 0.7 / norm(gradient))
        torch.testing.assert_close(change, expected)


def test_value_clips_every_element() -> None:
    gradients, applied = step("value", 0.3)
    for gradient, change in zip(gradients, applied):
        expected = [max(-0.3, min(0.3, value)) for value in gradient.flatten().tolist()]
        torch.testing.assert_close(change.flatten(), torch.tensor(expected))


def test_clipping_is_off_unless_enabled() -> None:
    model, optimizer = build("SOLVER.BASE_LR", 1.0, "SOLVER.MOMENTUM", 0.0)
    weight = model.head[0].weight
    before = weight.detach().clone()
    weight.grad = torch.full_like(weight, 1000.0)
    optimizer.step()
    assert (before - weight).min() > 999


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"SOLVER\.OPTIMIZER is 'Lion'; allowed: '', 'SGD'"):
        build("SOLVER.OPTIMIZER", "Lion")
    keys = ["SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "total"]
    with pytest.raises(
        ConfigError, match=r"CLIP_TYPE is 'total'; allowed: value, norm, full_model"
    ):
        build(*keys)
