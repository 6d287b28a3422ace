"""A resumed run has the settings of its config from that iteration on, or is refused."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from torch import nn

from solo_family.config import get_cfg
from solo_family.config.load import dotted_values
from solo_family.data.loading.sampler import GroupedSampler
from solo_family.engine.hooks import SamplerPlace
from solo_family.engine.main import main
from solo_family.engine.resumed import (
    APPLIED,
    BEGINNING,
    GROUPS,
    REFUSED,
    SCHEDULE,
    check_resumed,
    settings_of,
)
from solo_family.engine.trainer import Trainer
from solo_family.errors import ConfigError, DataError

from ..coco_folder import CocoFolder, noise, rectangle, run_cfg
from ..conftest import tiny_cfg

HALF, WHOLE = 4, 8


class Small(nn.Module):
    """A model with every kind of parameter that has rates of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 3))
        self.norm = nn.BatchNorm1d(3)
        self.embed = nn.Embedding(2, 3)
        self.head = nn.Linear(3, 1)

    def forward(self, batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        x = self.norm(self.backbone(torch.stack(batch))) + self.embed.weight.sum(0)
        return {"loss": self.head(x).square().mean()}


class SmallTrainer(Trainer):
    """Trains it on fixed numbers, and records what every parameter's step was done with."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        self.recorder = Recorder()
        self.register_hooks([self.recorder])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        torch.manual_seed(0)
        return Small()

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, mapper: Any = None) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(1)
        while True:
            yield list(torch.randn(4, 3, generator=generator))


class Recorder(HookBase):
    def __init__(self) -> None:
        self.rates: dict[int, dict[str, dict[str, Any]]] = {}

    def before_step(self) -> None:
        self.rates[self.trainer.iter] = rates(self.trainer)


def rates(trainer: Any) -> dict[str, dict[str, Any]]:
    """Returns the optimizer's numbers of every parameter."""
    return {
        name: {key: value for key, value in group.items() if key not in ("params", "initial_lr")}
        for name, parameter in trainer.raw_model.named_parameters()
        for group in trainer.optimizer.param_groups
        if any(parameter is other for other in group["params"])
    }


def averages(trainer: Trainer) -> dict[str, dict[str, Any]]:
    optimizer = trainer._trainer.optimizer
    return {
        name: dict(optimizer.state[parameter])
        for name, parameter in trainer.raw_model.named_parameters()
    }


def small_cfg(folder: Path, *opts: Any) -> CfgNode:
    steps = ["SOLVER.MAX_ITER", WHOLE, "SOLVER.STEPS", (3,), "SOLVER.WARMUP_ITERS", 6]
    rest = ["SOLVER.CHECKPOINT_PERIOD", HALF, "OUTPUT_DIR", str(folder), "SEED", 3]
    return tiny_cfg(opts=[*steps, *rest, *opts])


def trained(cfg: CfgNode, *, until: int | None = None, resume: bool = False) -> SmallTrainer:
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    trainer = SmallTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.max_iter = until or trainer.max_iter
    trainer.train()
    return trainer


def resumed(tmp_path: Path, before: list[Any], after: list[Any]) -> tuple[SmallTrainer, Any]:
    """Returns a run that went on with other settings, and the averages that it began with."""
    trained(small_cfg(tmp_path, *before), until=HALF)
    (tmp_path / "last_checkpoint").write_text(f"model_{HALF - 1:07d}.pth")
    trainer = SmallTrainer(small_cfg(tmp_path, *before, *after))
    trainer.resume_or_load(resume=True)
    taken = {
        name: {k: torch.as_tensor(v).clone() for k, v in state.items()}
        for name, state in averages(trainer).items()
    }
    trainer.train()
    return trainer, taken


def test_every_key_of_the_solver_has_its_place() -> None:
    keys = set(dotted_values(get_cfg().SOLVER))
    refused = {key.removeprefix("SOLVER.") for key in REFUSED if key.startswith("SOLVER.")}
    assert not keys - refused - APPLIED.keys(), "say in resumed.py what --resume does with it"
    assert not refused & APPLIED.keys()
    assert not (refused | APPLIED.keys()) - keys


# Beside a value that is not the default, what it needs to have an effect in these iterations.
CHANGED: dict[str, tuple[Any, list[Any]]] = {
    "BASE_LR": (0.05, []),
    "BASE_LR_END": (0.0005, ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"]),
    "LR_SCHEDULER_NAME": ("WarmupPolyLR", []),
    "MAX_ITER": (12, ["SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR"]),
    "STEPS": ((7,), []),
    "GAMMA": (0.5, []),
    "NUM_DECAYS": (4, ["SOLVER.LR_SCHEDULER_NAME", "WarmupStepWithFixedGammaLR"]),
    "WARMUP_FACTOR": (0.5, []),
    "WARMUP_ITERS": (7, []),
    "WARMUP_METHOD": ("constant", []),
    "RESCALE_INTERVAL": (True, []),
    "POLY_LR_POWER": (2.0, ["SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR"]),
    "POLY_LR_CONSTANT_ENDING": (0.6, ["SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR"]),
    "BIAS_LR_FACTOR": (2.0, []),
    "BACKBONE_MULTIPLIER": (0.3, []),
    "BACKBONE_LAYER_DECAY": (0.3, []),
    "REFERENCE_BATCH_SIZE": (4, []),
    "MOMENTUM": (0.5, []),
    "NESTEROV": (True, []),
    "WEIGHT_DECAY": (0.3, []),
    "WEIGHT_DECAY_NORM": (0.0001, []),
    "WEIGHT_DECAY_BIAS": (0.2, []),
    "WEIGHT_DECAY_EMBED": (0.0001, []),
    "NO_DECAY_NAMES": (["head"], []),
}


# One of each kind; the others are slow.
TOLD = ("BASE_LR", "MAX_ITER", "STEPS", "WARMUP_ITERS", "BACKBONE_LAYER_DECAY", "NO_DECAY_NAMES")


def test_every_key_of_rates_is_changed_below() -> None:
    assert CHANGED.keys() == {key for key, how in APPLIED.items() if how in (SCHEDULE, GROUPS)}


@pytest.mark.parametrize(
    "key", [key if key in TOLD else pytest.param(key, marks=pytest.mark.slow) for key in CHANGED]
)
def test_rates_are_those_of_a_run_that_had_them_from_the_start(tmp_path: Path, key: str) -> None:
    """Also where other rates are other groups; averages stay with their parameters."""
    value, needs = CHANGED[key]
    after = [f"SOLVER.{key}", value]
    trainer, taken = resumed(tmp_path / "run", needs, after)
    whole = trained(small_cfg(tmp_path / "whole", *needs, *after))
    for iteration in range(HALF, WHOLE):
        assert trainer.recorder.rates[iteration] == whole.recorder.rates[iteration]
    unchanged = trained(small_cfg(tmp_path / "before", *needs), until=HALF)
    for name, state in averages(unchanged).items():
        for kind, average in state.items():
            assert torch.equal(taken[name][kind], torch.as_tensor(average)), name
    others = trained(small_cfg(tmp_path / "others", *needs)).recorder.rates
    assert any(trainer.recorder.rates[i] != others[i] for i in range(HALF, WHOLE)), "no effect"


def test_steps_are_clipped_averaged_and_saved_as_the_config_says(tmp_path: Path) -> None:
    before = ["SOLVER.EMA.ENABLED", True, "SOLVER.EMA.DECAY", 0.5]
    clip = ["SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "value"]
    after = [
        *clip, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.0, "SOLVER.EMA.DECAY", 0.0,
        *("SOLVER.CHECKPOINT_PERIOD", 3, "SOLVER.WEIGHT_DECAY", 0.0, "SOLVER.MOMENTUM", 0.0),
        *("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.PRECISION", "bfloat16"),
    ]  # fmt: skip
    trainer, _ = resumed(tmp_path, before, after)
    old = torch.load(tmp_path / "model_0000003.pth", weights_only=True)
    for name, parameter in trainer.raw_model.named_parameters():
        assert torch.equal(parameter, old["model"][name]), "gradients of 0 move nothing"
    assert trainer.ema is not None
    for name, parameter in trainer.raw_model.state_dict().items():
        assert torch.equal(trainer.ema.average[name], parameter), "a decay of 0 keeps nothing"
    assert (tmp_path / "model_0000005.pth").is_file()
    assert trainer._trainer.precision == torch.bfloat16


def test_an_average_that_is_turned_on_begins_with_the_resumed_weights(tmp_path: Path) -> None:
    trainer, _ = resumed(tmp_path, [], ["SOLVER.EMA.ENABLED", True, "SOLVER.MAX_ITER", HALF])
    assert trainer.ema is not None
    for name, parameter in trainer.raw_model.state_dict().items():
        assert torch.equal(trainer.ema.average[name], parameter)


def test_the_order_goes_on_after_as_many_images(tmp_path: Path) -> None:
    """Whatever the sizes of batches were: 4 of 2, then 2 of 4, then batches of 1."""
    state: dict[str, Any] = {}
    finished, seen = 0, []
    for size, iterations in ((2, 4), (4, 2), (1, 4)):
        sampler = GroupedSampler(lambda seed: range(100), [{}] * 100, size, seed=5, grouped=False)
        place = SamplerPlace(sampler, size)
        trainer: Any = SimpleNamespace(iter=finished - 1, start_iter=finished)
        place.trainer = trainer
        if state:
            place.load_state_dict(state)
        place.before_train()
        batches = iter(sampler)
        seen += [draw.index for _ in range(iterations) for draw in next(batches)]
        finished += iterations
        place.trainer.iter = finished - 1
        state = place.state_dict()
    assert seen == list(range(8 + 8 + 4))


def pairs(*opts: Any) -> list[str]:
    return [str(value) for value in opts]


def config_file(folder: Path, cfg: CfgNode) -> list[str]:
    folder.mkdir(exist_ok=True)
    (folder / "given.yaml").write_text(cfg.dump())
    return ["--config-file", str(folder / "given.yaml")]


def test_what_is_refused_leaves_no_trace_and_its_advice_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = small_cfg(tmp_path / "run", "SOLVER.MAX_ITER", 2, "SOLVER.WARMUP_ITERS", 0)
    command = config_file(tmp_path / "configs", cfg)
    assert main(command, trainer=SmallTrainer) == 0
    kept = (tmp_path / "run" / "config.yaml").read_text()
    more, other = pairs("SOLVER.MAX_ITER", 4), pairs("SOLVER.OPTIMIZER", "AdamW")
    assert main([*command, "--resume", *more, *other], trainer=SmallTrainer) == 2
    said = capsys.readouterr().err
    assert "SOLVER.OPTIMIZER is 'AdamW', but the run began with 'SGD'" in said
    assert "without --resume, with MODEL.WEIGHTS the checkpoint and another OUTPUT_DIR" in said
    assert (tmp_path / "run" / "config.yaml").read_text() == kept  # of what has happened
    weights = ["MODEL.WEIGHTS", str(tmp_path / "run" / "model_final.pth")]
    own = [*weights, "OUTPUT_DIR", str(tmp_path / "own")]
    assert main([*command, *more, *other, *own], trainer=SmallTrainer) == 0


@pytest.mark.parametrize(
    ("key", "value", "before"),
    [("SOLVER.OPTIMIZER", "AdamW", "SGD"), ("SOLVER.AMSGRAD", True, False), ("SEED", 4, 3)],
)
def test_what_can_not_change(tmp_path: Path, key: str, value: Any, before: Any) -> None:
    first = ["SOLVER.OPTIMIZER", "AdamW"] if key == "SOLVER.AMSGRAD" else []
    trained(small_cfg(tmp_path, *first), until=HALF)
    with pytest.raises(ConfigError, match=f"Set {key} {before!r}, or begin"):
        trained(small_cfg(tmp_path, *first, key, value), resume=True)
    trained(small_cfg(tmp_path, *first, key, before), resume=True)


@pytest.mark.parametrize("key", BEGINNING)
def test_other_weights_to_begin_with_would_not_be_read(tmp_path: Path, key: str) -> None:
    cfg = small_cfg(tmp_path)
    before = {**settings_of(cfg), key: "/data/R-50.pkl"}
    with pytest.raises(ConfigError, match=f"{key} is 'mine.pth', but the run began with .*Set"):
        check_resumed(before, HALF, small_cfg(tmp_path, key, "mine.pth"))
    for same in ("/data/R-50.pkl", "/moved/R-50.pkl", ""):
        check_resumed(before, HALF, small_cfg(tmp_path, key, same))


@pytest.mark.parametrize(
    "names", [["dog", "cat"], pytest.param(["cat", "horse"], marks=pytest.mark.slow)]
)
def test_classes_that_follow_other_data_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: list[str]
) -> None:
    """A tool that exports annotations again may give its categories other ids."""

    def data(name: str, categories: dict[int, str]) -> str:
        folder = CocoFolder(tmp_path / name, categories)
        folder.add("0.png", noise(48, 64), [rectangle(5, 8, 20, 24, category_id=min(categories))])
        return folder.write()

    first = data("first", {1: "cat", 2: "dog"})
    command = config_file(tmp_path, run_cfg(first, tmp_path / "run"))
    assert main(command) == 0
    kept = (tmp_path / "run" / "config.yaml").read_text()
    again = [*command, "--resume", "SOLVER.MAX_ITER", "4", "DATASETS.TRAIN"]
    assert main([*again, f"('{data('other', dict(enumerate(names, 1)))}',)"]) == 2
    stated = f"MODEL.CLASS_NAMES is {', '.join(names)}, but the run began with cat, dog: each"
    assert stated in capsys.readouterr().err
    assert (tmp_path / "run" / "config.yaml").read_text() == kept
    # Other ids in the same order are the same outputs.
    assert main([*again, f"('{data('same', {3: 'cat', 5: 'dog'})}',)"]) == 0


def test_an_evaluation_leaves_the_config_of_the_training(tmp_path: Path) -> None:
    cfg = small_cfg(tmp_path / "run", "SOLVER.MAX_ITER", 1, "SOLVER.WARMUP_ITERS", 0)
    command = config_file(tmp_path / "configs", cfg)
    assert main(command, trainer=SmallTrainer) == 0
    kept = (tmp_path / "run" / "config.yaml").read_text()
    weights = ["MODEL.WEIGHTS", str(tmp_path / "run" / "model_final.pth")]
    evaluation = [*command, "--eval-only", *weights, "TEST.DETECTIONS_PER_IMAGE", "7"]
    main(evaluation, trainer=SmallTrainer)  # ends without a test set, with its config written
    assert (tmp_path / "run" / "config.yaml").read_text() == kept
    assert "DETECTIONS_PER_IMAGE: 7" in (tmp_path / "run" / "config_eval.yaml").read_text()
    main([*evaluation, "OUTPUT_DIR", str(tmp_path / "own")], trainer=SmallTrainer)
    assert "DETECTIONS_PER_IMAGE: 7" in (tmp_path / "own" / "config.yaml").read_text()


def test_an_optimizer_by_name_or_by_method_is_the_same(tmp_path: Path) -> None:
    resumed(tmp_path, [], ["SOLVER.OPTIMIZER", "SGD"])


def test_fewer_iterations_than_were_done(tmp_path: Path) -> None:
    trained(small_cfg(tmp_path))
    with pytest.raises(ConfigError, match=f"SOLVER.MAX_ITER is 6, .* {WHOLE} iterations"):
        trained(small_cfg(tmp_path, "SOLVER.MAX_ITER", 6), resume=True)
    (tmp_path / "last_checkpoint").write_text(f"model_{HALF - 1:07d}.pth")
    trained(small_cfg(tmp_path, "SOLVER.MAX_ITER", 6), resume=True)
    (tmp_path / "last_checkpoint").write_text("model_final.pth")
    trained(small_cfg(tmp_path, "SOLVER.MAX_ITER", WHOLE), resume=True)


def test_a_checkpoint_of_an_earlier_version(tmp_path: Path) -> None:
    """It has neither settings nor names: rates are applied, and what does not fit is refused."""
    trained(small_cfg(tmp_path), until=HALF)
    path = tmp_path / f"model_{HALF - 1:07d}.pth"
    (tmp_path / "last_checkpoint").write_text(path.name)
    content = torch.load(path, weights_only=True)
    del content["trainer"]["settings"], content["trainer"]["_trainer"]["parameters"]
    torch.save(content, path)
    again = trained(small_cfg(tmp_path, "SOLVER.BASE_LR", 0.05), resume=True)
    whole = trained(small_cfg(tmp_path / "whole", "SOLVER.BASE_LR", 0.05))
    assert again.recorder.rates[HALF] == whole.recorder.rates[HALF]
    (tmp_path / "last_checkpoint").write_text(path.name)
    for other, said in (("SOLVER.WEIGHT_DECAY_BIAS", "groups"), ("SOLVER.OPTIMIZER", "AdamW")):
        value: Any = "AdamW" if "OPTIMIZER" in other else 0.2
        with pytest.raises(DataError, match=f"--resume can't go on from .*{said}"):
            trained(small_cfg(tmp_path, other, value), resume=True)


class WiderTrainer(SmallTrainer):
    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = Small()
        model.head = nn.Linear(3, 2)
        return model


class FrozenTrainer(SmallTrainer):
    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = Small()
        model.head.requires_grad_(False)
        return model


def trained_by(trainer_class: type[Trainer], cfg: CfgNode, *, resume: bool) -> None:
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    trainer = trainer_class(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()


@pytest.mark.parametrize(
    ("other", "advice"),
    [
        (WiderTrainer, ["Go on with the config of the stopped run", "or in another OUTPUT_DIR"]),
        (
            FrozenTrainer,
            ["use the config of the stopped run", "or start a new run in another OUTPUT_DIR"],
        ),
    ],
)
def test_remedies_of_a_checkpoint_that_does_not_fit(
    tmp_path: Path, other: type[Trainer], advice: list[str]
) -> None:
    trained(small_cfg(tmp_path / "run"), until=HALF)
    with pytest.raises(DataError) as raised:
        trained_by(other, small_cfg(tmp_path / "run"), resume=True)
    assert all(words in str(raised.value) for words in advice)
    trained(small_cfg(tmp_path / "run"), resume=True)
    trained_by(other, small_cfg(tmp_path / "other"), resume=True)
    trained_by(other, small_cfg(tmp_path / "run"), resume=False)


def test_remedies_where_no_checkpoint_is_whole(tmp_path: Path) -> None:
    cfg = small_cfg(tmp_path / "run")
    trained(cfg, until=HALF)
    path = tmp_path / "run" / f"model_{HALF - 1:07d}.pth"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    (tmp_path / "run" / "model_final.pth").unlink()
    with pytest.raises(DataError) as raised:
        trained(cfg, resume=True)
    said = str(raised.value)
    assert "Copy an intact one there and write its name into last_checkpoint" in said
    (tmp_path / "run" / "model_mine.pth").write_bytes(whole)
    (tmp_path / "run" / "last_checkpoint").write_text("model_mine.pth")
    trained(cfg, until=HALF, resume=True)
    assert "start a new run: without --resume, which moves the old files to a subfolder" in said
    trained(cfg, resume=False)
    assert path.read_bytes() != whole[:100]
    assert (tmp_path / "run" / "previous-1" / path.name).is_file()
    assert "or in another OUTPUT_DIR" in said
    trained(small_cfg(tmp_path / "other"), resume=True)
