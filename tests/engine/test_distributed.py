"""Two gloo processes against one process with both images."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from solo_family.engine.trainer import distributed
from solo_family.modeling.compiled import compile_network
from solo_family.modeling.recomputed_blocks import checkpoint_activations

from ..conftest import picture, tiny_model
from ..forked import Forked

Adapt = Callable[[nn.Module], None] | None


class Outcome(NamedTuple):
    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]


# With a weight of "no object" of 1 the cross-entropy of all images has one divisor; else it is,
# as published, the mean of each process by itself.
OPTS = {
    "SOLOv2": [],
    "MaskFormer": [
        *("MODEL.MASK_FORMER.DROPOUT", 0.0, "MODEL.MASK_FORMER.NO_OBJECT_WEIGHT", 1.0),
    ],
}


def make_model(globally: bool, method: str = "SOLOv2") -> nn.Module:
    """A tiny model whose batch norms are fixed, so that images don't see one another.

    In float64, because a float32 sum over two images is rounded otherwise than two sums over one.
    """
    torch.set_num_threads(1)
    opts = ["MODEL.BACKBONE.NORM_EVAL", True, "SOLVER.NORMALIZE_LOSS_GLOBALLY", globally]
    model = tiny_model(method, opts=[*opts, *OPTS[method]])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = None  # the statistics of the one batch below
    with torch.no_grad():
        model([picture(seed=8), picture(seed=9)])
    return model.double().train()


def image(index: int, objects: int) -> dict[str, Any]:
    return picture(objects=objects, seed=20 + index)


def losses_and_gradients(model: nn.Module, batch: list[dict[str, Any]]) -> Outcome:
    losses = model(batch)
    sum(losses.values()).backward()
    return Outcome(
        {name: loss.detach() for name, loss in losses.items()},
        {
            name.removeprefix("module."): parameter.grad
            for name, parameter in model.named_parameters()
        },
    )


def in_one_process(
    *batch: dict[str, Any], globally: bool = False, method: str = "SOLOv2"
) -> Outcome:
    return losses_and_gradients(make_model(globally, method), list(batch))


def one_of_two(folder: Path, globally: bool, method: str, adapt: Adapt, words: list[str]) -> int:
    """The program of one process; `words` are its rank, and how many objects its image has."""
    rank, objects = map(int, words)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    alone = make_model(globally, method)
    if adapt is not None:
        adapt(alone)
    model = distributed(alone)
    assert type(model).__name__ == "DistributedDataParallel"
    torch.save(losses_and_gradients(model, [image(rank, objects)]), folder / f"{rank}.pth")
    dist.barrier()
    dist.destroy_process_group()
    return 0


def in_two_processes(
    folder: Path,
    globally: bool,
    objects: tuple[int, int],
    method: str = "SOLOv2",
    *,
    adapt: Adapt = None,
) -> list[Outcome]:
    folders = [folder / "first", folder / "second"]
    for own in folders:
        own.mkdir()
    program = partial(one_of_two, folder, globally, method, adapt)
    with (
        Forked(program, [0, objects[0]], folders[0]) as first,
        Forked(program, [1, objects[1]], folders[1]) as second,
    ):
        for process in (first, second):
            assert process.status() == 0, process.printed
    return [Outcome(*torch.load(folder / f"{rank}.pth", weights_only=False)) for rank in (0, 1)]


def mean(values: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([value[name] for value in values]).mean(0) for name in values[0]}


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(actual) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, atol=1e-5, rtol=1e-5, msg=name)


@pytest.fixture(scope="module")
def by_default(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    return in_two_processes(tmp_path_factory.mktemp("default"), False, (3, 1))


@pytest.mark.slow
def test_by_default_every_process_divides_by_its_own_counts(by_default: list[Outcome]) -> None:
    alone = [in_one_process(image(0, 3)), in_one_process(image(1, 1))]
    for outcome, own in zip(by_default, alone):
        assert_close(outcome.losses, own.losses)
    expected = mean([outcome.gradients for outcome in alone])
    for outcome in by_default:
        assert_close(outcome.gradients, expected)
    together = in_one_process(image(0, 3), image(1, 1))
    averaged = mean([outcome.losses for outcome in by_default])
    assert abs(averaged["loss_dice"] - together.losses["loss_dice"]) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "adapt", [checkpoint_activations, partial(compile_network, backend="eager")]
)
def test_adapted_models(tmp_path: Path, by_default: list[Outcome], adapt: Adapt) -> None:
    """Whose activations are computed again, or whose heads are compiled."""
    torch._dynamo.reset()  # imports it once, before both processes begin
    outcomes = in_two_processes(tmp_path, False, (3, 1), adapt=adapt)
    for outcome, plain in zip(outcomes, by_default):
        for name, gradient in plain.gradients.items():
            torch.testing.assert_close(outcome.gradients[name], gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "objects",
    [
        (2, 0),
        pytest.param((3, 1), marks=pytest.mark.slow),
        pytest.param((0, 0), marks=pytest.mark.slow),
    ],
)
def test_normalised_globally_two_processes_are_one_batch(
    tmp_path: Path, objects: tuple[int, int]
) -> None:
    outcomes = in_two_processes(tmp_path, True, objects)
    together = in_one_process(*map(image, range(2), objects), globally=True)
    assert_close(mean([outcome.losses for outcome in outcomes]), together.losses)
    for outcome in outcomes:
        assert_close(outcome.gradients, together.gradients)


@pytest.mark.slow
@pytest.mark.parametrize("objects", [(3, 1), (2, 0)])
def test_masks_of_maskformer_are_counted_over_all_processes(
    tmp_path: Path, objects: tuple[int, int]
) -> None:
    outcomes = in_two_processes(tmp_path, False, objects, "MaskFormer")
    together = in_one_process(*map(image, range(2), objects), method="MaskFormer")
    assert_close(mean([outcome.losses for outcome in outcomes]), together.losses)
    for outcome in outcomes:
        assert_close(outcome.gradients, together.gradients)


@pytest.mark.slow
def test_a_process_without_objects_neither_hangs_nor_leaves_gradients_out(tmp_path: Path) -> None:
    outcomes = in_two_processes(tmp_path, False, (0, 2))
    for outcome in outcomes:
        assert all(gradient is not None for gradient in outcome.gradients.values())
        assert all(gradient.isfinite().all() for gradient in outcome.gradients.values())
    assert_close(outcomes[0].gradients, outcomes[1].gradients)
    assert outcomes[0].losses["loss_dice"] == 0
