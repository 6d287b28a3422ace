"""Trainings that end in time, by a clock of the test's own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from solo_family.engine.arguments import argument_parser
from solo_family.engine.main import run as train
from solo_family.engine.step import TrainingStep
from solo_family.recipe.deadline import Deadline, Replanned, keeping
from solo_family.recipe.shortened import Plan, shortened

from ..coco_folder import write_cfg
from ..conftest import tiny_cfg

FULL = 1000
# Iterations' times: 100 images are evaluated, 4 at a time, there is a report, and they are drawn.
AFTER = 100 / 4 / 3 + 5 + 10


def simulate(budget: float, seconds: Callable[[int], float], full: int = FULL) -> tuple:
    """Return how many iterations a training has, when all is done, and what is said."""
    now, planned, said = 0.0, full, []
    deadline = Deadline(budget, budget, images=100, batch=4, clock=lambda: now)
    finished = 0
    while finished < planned:
        now += seconds(finished)
        deadline.seconds.append(seconds(finished))
        finished += 1
        before, planned = deadline.said, deadline.look(finished, planned)
        if deadline.said != before:
            said.append(deadline.said)
    return finished, now + AFTER * seconds(finished), said


def test_a_report_has_its_time_only_if_there_is_one() -> None:
    fitting = []
    for reports in (True, False):
        deadline = Deadline(360, 360, images=0, batch=4, reports=reports, clock=lambda: 12)
        deadline.seconds = [1.0] * 12
        fitting.append(deadline.look(12, FULL))
    assert fitting[1] - fitting[0] == 5  # iterations


def test_a_fast_machine_does_the_whole_recipe() -> None:
    finished, _, said = simulate(600, lambda _: 0.4)
    assert finished == FULL
    assert said == [
        f"The last 12 iterations took 0.4 s each: all {FULL} iterations fit in 10 minutes."
    ]


@pytest.mark.parametrize("seconds", [0.4, 0.9, 3.0, 10.0])
def test_a_slow_one_does_what_fits(seconds: float) -> None:
    finished, end, said = simulate(360, lambda _: seconds)
    assert 0.85 * 360 < end <= 360
    assert len(said) == 1
    assert f"took {seconds:.2g} s each: {finished} of {FULL} iterations fit in 6 min" in said[0]


def test_the_first_iterations_may_take_long() -> None:
    finished, _, said = simulate(600, lambda index: 20.0 if index < 2 else 0.4)
    assert (finished, len(said)) == (FULL, 1)


@pytest.mark.parametrize("turn", [5, 100, 380])
def test_a_machine_that_becomes_slow_still_ends_in_time(turn: int) -> None:
    finished, end, said = simulate(360, lambda index: 0.4 if index < turn else 1.6)
    assert end <= 360 + 1.6 * (20 + 2)  # until the new speed is known
    assert turn < finished < FULL
    assert len(said) <= 8


def test_what_can_t_be_done_in_time_is_ended_soon() -> None:
    finished, _, _ = simulate(360, lambda _: 100.0)
    assert finished == 2  # the least of which one can tell


def test_the_schedule_keeps_its_form() -> None:
    opts = ["SOLVER.MAX_ITER", 800, "SOLVER.STEPS", (600, 700), "SOLVER.WARMUP_ITERS", 50]
    cfg = tiny_cfg(opts=opts)
    shorter = cfg.clone()
    shorter.merge_from_list(shortened(cfg, 400))
    solver = shorter.SOLVER
    assert (solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (400, (300, 350), 50)
    shorter.merge_from_list(shortened(cfg, 70))
    assert (solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (70, (52, 61), 10)
    shorter.merge_from_list(shortened(cfg, 1))
    assert (solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (1, (), 0)


def test_a_plan_outlives_its_process(tmp_path: Path) -> None:
    cfg = tiny_cfg(opts=["SOLVER.MAX_ITER", 800])
    assert Plan(tmp_path, cfg).iterations() == 800
    assert Plan(tmp_path, cfg).opts(800) == []
    Plan(tmp_path, cfg).change(300)
    assert Plan(tmp_path, cfg).iterations() == 300
    assert Plan(tmp_path, cfg).opts(300)[:2] == ["SOLVER.MAX_ITER", "300"]
    # The user gives another number, or the file is none of ours.
    assert Plan(tmp_path, tiny_cfg(opts=["SOLVER.MAX_ITER", 20])).iterations() == 20
    (tmp_path / "plan.json").write_text("[1]")
    assert Plan(tmp_path, cfg).iterations() == 800


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """A clock by which every training step takes a second, and nothing else any time."""
    now = [0.0]
    run_step = TrainingStep.run_step

    def step(self: TrainingStep) -> None:
        run_step(self)
        now[0] += 1.0

    monkeypatch.setattr(TrainingStep, "run_step", step)
    return lambda: now[0]


def test_a_training_goes_on_with_a_schedule_that_fits(
    shapes: Path, tmp_path: Path, clock: Callable[[], float]
) -> None:
    cfg = tiny_cfg(
        opts=[
            *("DATASETS.TRAIN", (f"coco_json:{shapes}/annotations/train.json:{shapes}/train",)),
            *("MODEL.SOLOV2.NUM_CLASSES", 0, "SOLVER.MAX_ITER", 60, "SOLVER.IMS_PER_BATCH", 2),
            *("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.WARMUP_ITERS", 5),
            *("INPUT.MIN_SIZE_TRAIN", (64,), "DATALOADER.NUM_WORKERS", 0, "SEED", 1),
            *("OUTPUT_DIR", str(tmp_path / "run")),
        ]
    )
    config = tmp_path / "config.yaml"
    write_cfg(config, cfg)
    budget = 45.0  # 6 % of it are kept, 15 iterations for the end
    deadline = Deadline(budget, budget, images=0, batch=2, clock=clock)
    words = ["--config-file", str(config), "--resume"]
    trainer = keeping(deadline)
    parse = argument_parser().parse_args
    with pytest.raises(Replanned) as replanned:
        train(parse([*words], type(parse(words))(trainer=trainer)))
    planned = replanned.value.iterations
    assert planned == int(45 - 15 - 0.06 * 45) == 27
    again = parse([*words, *shortened(cfg, planned)], type(parse(words))(trainer=trainer))
    train(again)

    assert len(deadline.seconds) == planned  # none was done twice
    lines = (tmp_path / "run" / "metrics.json").read_text().splitlines()
    rates = [json.loads(line)["lr"] for line in lines]
    assert rates[-1] < 0.05 * cfg.SOLVER.BASE_LR
    final = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)
    assert final["iteration"] == planned - 1
