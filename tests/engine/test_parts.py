"""A batch in parts (`SOLVER.ACCUMULATE`) has the gradients and the losses of the whole batch."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from solo_family.config import check_config
from solo_family.engine.parts import check_parts, divide
from solo_family.engine.step import TrainingStep
from solo_family.engine.trainer import Trainer, distributed
from solo_family.errors import ConfigError, TrainingError

from ..coco_folder import run_cfg, small_dataset
from ..conftest import METHODS, picture, tiny_model
from ..forked import Forked

# Without a random number in the losses, which a part would not draw as the batch does.
NOT_RANDOM = {"MaskFormer": ["MODEL.MASK_FORMER.DROPOUT", 0.0]}
VARIANTS = [
    *((method, []) for method in METHODS),
    ("SOLOv2", ["MODEL.SOLOV2.LOSS.DICE_NORMALIZER", "cells"]),
    ("SOLO", ["MODEL.SOLO.LOSS.MASK_LOSS", "bce"]),
    ("InstanceFCN", ["MODEL.INSTANCE_FCN.LOSS.NEGATIVE_MASKS", True]),
    ("InstanceFCN", ["MODEL.INSTANCE_FCN.CLASSIFY", True]),
    ("MaskFormer", ["MODEL.MASK_FORMER.MATCHING", "fixed"]),
    ("SparseInst", ["MODEL.SPARSE_INST.DECODER.NAME", "CrossAttentionDecoder"]),
    # More objects than predictions, of which some are matched with none.
    ("SparseInst", ["MODEL.SPARSE_INST.DECODER.NUM_MASKS", 3]),
    ("MaskFormer", ["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 3]),
]


def fixed_model(method: str, opts: list[Any]) -> nn.Module:
    """A tiny model in float64 without batch statistics, so that images don't see one another."""
    fixed = ["MODEL.BACKBONE.NORM_EVAL", True, *NOT_RANDOM.get(method, [])]
    model = tiny_model(method, opts=[*fixed, *opts])
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train()
                module.momentum = None  # the statistics of the one batch below
        model([picture(seed=8), picture(seed=9)])
    return model.double()


def batch(*objects: int) -> list[dict[str, Any]]:
    """Images of different sizes with so many objects each."""
    sizes = [(64, 96), (96, 128), (40, 70), (64, 64)]
    return [
        picture(*size, objects=count, seed=20 + index)
        for index, (size, count) in enumerate(zip(sizes, objects))
    ]


def step(
    model: nn.Module, data: list[dict[str, Any]], parts: int, **options: Any
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Returns the gradients of a step, by name, and the losses that it logs."""
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    seed: Any = SimpleNamespace(seed=3)  # of the windows that InstanceFCN draws
    one = TrainingStep(model, [data], optimizer, accumulate=parts, sampler=seed, **options)
    one.iter = 0
    with EventStorage() as storage:
        one.run_step()
        logged = {k: v[0] for k, v in storage.latest().items() if k.startswith("loss")}
    names = {p: name.removeprefix("module.") for name, p in model.named_parameters()}
    return {names[p]: p.grad for p in model.parameters() if p.grad is not None}, logged


def assert_the_same(actual: Any, expected: Any) -> None:
    for values, others in zip(actual, expected):
        assert values.keys() == others.keys()
        for name, value in values.items():
            here, there = torch.as_tensor(value), torch.as_tensor(others[name])
            # Losses are float32, whose rounding is relative to the largest values.
            assert (here - there).abs().max() <= 5e-4 * there.abs().max() + 1e-9, name


@pytest.mark.parametrize(
    ("method", "opts"),
    [pytest.param(*each, marks=pytest.mark.slow if each[1] else ()) for each in VARIANTS],
    ids=str,
)
def test_two_parts_of_two_are_a_batch_of_four(method: str, opts: list[Any]) -> None:
    model = fixed_model(method, opts)
    data = batch(5, 0, 1, 2)
    expected = step(model, data, 1)
    assert_the_same(step(model, data, 2), expected)
    if not opts:  # a part without objects, and parts of different sizes
        assert_the_same(step(model, data, 4), expected)
        assert_the_same(step(model, data[:3], 2), step(model, data[:3], 1))


def test_mean_of_the_parts_would_be_something_else() -> None:
    """What the test above would let pass if it let anything pass."""
    model, data = fixed_model("SOLOv2", []), batch(5, 0, 1, 2)
    whole = step(model, data, 1)[0]
    halves = [step(model, data[half], 1)[0] for half in (slice(2), slice(2, 4))]
    first = next(iter(whole))
    assert not torch.allclose((halves[0][first] + halves[1][first]) / 2, whole[first], rtol=1e-2)


def one_of_two(folder: Path, words: list[str]) -> int:
    rank = int(words[0])
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    opts = ["SOLVER.NORMALIZE_LOSS_GLOBALLY", True]
    data = batch(5, 0, 1, 2)[rank * 2 : rank * 2 + 2]
    # Padded alike, which processes are not by themselves.
    data[0]["image"] = nn.functional.pad(data[0]["image"], (0, 40, 0, 40))
    gradients = {
        f"{method} {parts}": step(distributed(fixed_model(method, opts)), data, parts)[0]
        for method in ("SOLOv2", "SparseInst", "MaskFormer")
        for parts in (1, 2)
    }
    torch.save(gradients, folder / f"{rank}.pth")
    dist.barrier()
    dist.destroy_process_group()
    return 0


@pytest.mark.slow
def test_parts_in_two_processes(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for own in folders:
        own.mkdir()
    program = partial(one_of_two, tmp_path)
    with Forked(program, [0], folders[0]) as first, Forked(program, [1], folders[1]) as second:
        for process in (first, second):
            assert process.status() == 0, process.printed
    for rank in (0, 1):
        gradients = torch.load(tmp_path / f"{rank}.pth", weights_only=True)
        for method in ("SOLOv2", "SparseInst", "MaskFormer"):
            assert_the_same([gradients[f"{method} 2"]], [gradients[f"{method} 1"]])


def test_half_precision_is_scaled_as_a_whole() -> None:
    model, data = fixed_model("SparseInst", []).float(), batch(3, 1, 1, 2)
    expected = step(model, data, 1, precision=torch.bfloat16)
    actual = step(model, data, 2, precision=torch.bfloat16)
    for name, gradient in expected[0].items():
        scale = gradient.abs().max().clamp(min=1e-3)
        assert (actual[0][name] - gradient).abs().max() < 0.1 * scale, name


def test_parts_are_padded_as_the_batch() -> None:
    parts = divide(batch(1, 1, 1, 1), 2)
    assert [[item["image"].shape[1] for item in part] for part in parts] == [[64, 96], [40, 64]]
    assert {item["pad_to"] for part in parts for item in part} == {(96, 128)}
    (whole,) = divide(batch(1, 1), 1)
    assert "pad_to" not in whole[0]


class Sum(nn.Module):
    """A model of other code, and one that has a loss of which nothing is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, data: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {"loss_own": self.weight * len(data)}

    def count_losses(self, data: list[dict[str, Any]]) -> dict[str, Any]:
        return {}


def test_what_has_no_exact_way_is_refused(tmp_path: Path) -> None:
    check_parts(Sum(), 1)
    with pytest.raises(ConfigError, match=r"ACCUMULATE is 2, but this Sum can't say"):
        check_parts(Sum(), 2)
    opts = ["MODEL.MASK_FORMER.LOSS_TYPE", "per_pixel_likelihood"]
    with pytest.raises(ConfigError, match=r"ACCUMULATE is 2, but this MaskFormer can't"):
        check_parts(tiny_model("MaskFormer", opts=opts), 2)
    with pytest.raises(TrainingError, match=r"does not say what its loss_own is divided by"):
        step(Sum(), batch(1, 1), 2)


def cfg_of(root: Path, *opts: Any) -> CfgNode:
    return run_cfg(small_dataset(root / "data").name, root / "run", *opts)


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        (["SOLVER.ACCUMULATE", 0], r"ACCUMULATE is 0; .*divisor of SOLVER.IMS_PER_BATCH, 2"),
        (["SOLVER.ACCUMULATE", 3], r"ACCUMULATE is 3; .*divisor of SOLVER.IMS_PER_BATCH, 2"),
        (["SOLVER.ACCUMULATE", 2, "TEST.PRECISE_BN.ENABLED", True], r"PRECISE_BN.*ACCUMULATE 2"),
    ],
)
def test_values_that_can_not_be(tmp_path: Path, opts: list[Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_config(cfg_of(tmp_path, *opts))


def test_a_run_of_parts_is_a_run_of_batches(tmp_path: Path) -> None:
    """With clipping, momentum, EMA and a schedule, each of which counts steps, not parts."""
    opts = [
        *("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"),
        *("SOLVER.EMA.ENABLED", True, "SOLVER.STEPS", (2,), "SOLVER.BASE_LR", 0.001),
        *("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.BACKBONE.FREEZE_AT", 5),
    ]
    dataset = small_dataset(tmp_path / "data").name
    states = []
    for parts in (1, 2):
        (tmp_path / str(parts)).mkdir()
        torch.manual_seed(0)
        cfg = run_cfg(dataset, tmp_path / str(parts), *opts, "SOLVER.ACCUMULATE", parts)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()
        states.append(torch.load(tmp_path / str(parts) / "model_final.pth", weights_only=True))
    whole, divided = states
    assert divided["iteration"] == whole["iteration"] == 2
    for name, value in whole["model"].items():
        torch.testing.assert_close(divided["model"][name], value, rtol=1e-4, atol=1e-6)
