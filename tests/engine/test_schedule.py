"""Learning rates of every schedule, computed again by hand; scaling by batch size; decay."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectron2.layers import batch_norm
from torch import nn

from solo_family.config.check import LR_SCHEDULES
from solo_family.engine.optimizer import build_optimizer
from solo_family.engine.trainer import Trainer
from solo_family.errors import ConfigError

from ..conftest import tiny_cfg

ITERATIONS, WARMUP = 40, 5
STEPS = (10, 30)
KEYS = [
    *("SOLVER.BASE_LR", 0.5, "SOLVER.MAX_ITER", ITERATIONS, "SOLVER.STEPS", STEPS),
    *("SOLVER.WARMUP_ITERS", WARMUP, "SOLVER.WARMUP_FACTOR", 0.1, "SOLVER.GAMMA", 0.2),
]


def rates(*opts: Any) -> list[float]:
    parameter = nn.Parameter(torch.zeros(1))
    cfg = tiny_cfg(opts=[*KEYS, *opts])
    optimizer = torch.optim.SGD([parameter], lr=cfg.SOLVER.BASE_LR)
    scheduler = Trainer.build_lr_scheduler(cfg, optimizer)
    values = []
    for _ in range(ITERATIONS):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


def cosine(iteration: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * iteration / ITERATIONS))


def poly(iteration: int) -> float:
    return (1 - iteration / ITERATIONS) ** 0.9


def multi_step(iteration: int) -> float:
    return 0.2 ** sum(iteration >= step for step in STEPS)


def test_one_cycle() -> None:
    keys = ["SOLVER.LR_SCHEDULER_NAME", "OneCycleLR", "SOLVER.BASE_LR_END", 0.005]
    for iteration, rate in enumerate(rates(*keys)):
        if iteration < WARMUP:  # from 0.05 to 0.5
            expected = 0.05 + 0.45 * (1 - math.cos(math.pi * iteration / WARMUP)) / 2
        else:
            done = (iteration - WARMUP) / (ITERATIONS - WARMUP)
            expected = 0.005 + 0.495 * (1 + math.cos(math.pi * done)) / 2
        assert rate == pytest.approx(expected)
    # Without a rise, and after the last iteration.
    assert rates(*keys, "SOLVER.WARMUP_ITERS", 0)[0] == 0.5


@pytest.mark.parametrize("name", LR_SCHEDULES)
@pytest.mark.parametrize("warmup", [ITERATIONS - 1, ITERATIONS, 1000])
def test_a_training_may_be_shorter_than_its_warmup(name: str, warmup: int) -> None:
    """detectron2's warm-up of 1000 iterations is the default; `rates` goes to the very end."""
    actual = rates("SOLVER.LR_SCHEDULER_NAME", name, "SOLVER.WARMUP_ITERS", warmup)
    assert all(0 < rate <= 0.5 for rate in actual)
    assert actual[0] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("name", "factor"),
    [("WarmupMultiStepLR", multi_step), ("WarmupCosineLR", cosine), ("WarmupPolyLR", poly)],
)
def test_schedules(name: str, factor: Callable[[int], float]) -> None:
    actual = rates("SOLVER.LR_SCHEDULER_NAME", name)
    for iteration in range(WARMUP, ITERATIONS):
        assert actual[iteration] == pytest.approx(0.5 * factor(iteration), rel=1e-6)
    assert actual[0] == pytest.approx(0.05)
    assert actual[0] < actual[1] < actual[WARMUP - 1] < actual[WARMUP]


def test_poly_has_a_power_and_an_end() -> None:
    keys = ["SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR", "SOLVER.POLY_LR_POWER", 2.0]
    actual = rates(*keys, "SOLVER.POLY_LR_CONSTANT_ENDING", 0.25)
    assert actual[10] == pytest.approx(0.5 * 0.75**2)
    assert actual[-1] == pytest.approx(0.5 * 0.25)


def test_an_unknown_schedule() -> None:
    with pytest.raises(ConfigError, match=r"LR_SCHEDULER_NAME is 'Step'; allowed: .*WarmupPolyLR"):
        rates("SOLVER.LR_SCHEDULER_NAME", "Step")


@pytest.mark.parametrize(("reference", "expected"), [(0, 0.5), (16, 0.125), (2, 1.0)])
def test_the_rate_is_scaled_by_the_batch_size_where_asked(reference: int, expected: float) -> None:
    assert tiny_cfg().SOLVER.REFERENCE_BATCH_SIZE == 0
    keys = ["SOLVER.IMS_PER_BATCH", 4, "SOLVER.REFERENCE_BATCH_SIZE", reference]
    optimizer = build_optimizer(tiny_cfg(opts=[*KEYS, *keys]), nn.Linear(1, 1))
    assert {group["lr"] for group in optimizer.param_groups} == {expected}


class Everything(nn.Module):
    """Its names say nothing of what its layers are."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Linear(2, 2)
        self.embedding = nn.Conv2d(2, 2, 1)
        self.a, self.b, self.c = nn.Embedding(3, 2), nn.LayerNorm(2), nn.GroupNorm(1, 2)
        self.d, self.e = nn.BatchNorm2d(2), nn.RMSNorm(2)
        # Of images; detectron2 0.6 has none.
        self.f = getattr(batch_norm, "LayerNorm", nn.LayerNorm)(2)
        self.g = nn.Embedding(3, 2).requires_grad_(False)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_norms_and_embeddings_do_not_decay_whatever_they_are_called(name: str) -> None:
    model = Everything()
    keys = ["SOLVER.WEIGHT_DECAY", 0.05, "SOLVER.OPTIMIZER", name]
    optimizer = build_optimizer(tiny_cfg(opts=keys), model)
    decay = {p: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    for module_name, module in model.named_children():
        for parameter in module.parameters():
            if module_name == "g":
                assert parameter not in decay
            else:
                expected = 0.05 if module_name in ("norm", "embedding") else 0.0
                assert decay[parameter] == expected, module_name


def test_the_decay_of_embeddings_has_a_key() -> None:
    model = Everything()
    optimizer = build_optimizer(tiny_cfg(opts=["SOLVER.WEIGHT_DECAY_EMBED", 0.01]), model)
    decay = {p: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decay[model.a.weight] == 0.01
    assert decay[model.e.weight] == 0.0
