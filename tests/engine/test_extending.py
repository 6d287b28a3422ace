"""The page docs/extending.md is run as it stands, and what a trainer overrides is used."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from detectron2.data import build_detection_test_loader
from detectron2.engine import HookBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY

from solo_family.engine.main import main
from solo_family.engine.trainer import Trainer
from solo_family.registry import METHODS

from ..coco_folder import run_cfg, small_dataset, write_cfg
from ..conftest import ROOT


@pytest.fixture(scope="module")
def my_train() -> Iterator[ModuleType]:
    """Return the page's file as a module."""
    page = (ROOT / "docs" / "extending.md").read_text()
    module = ModuleType("my_train")
    sys.modules["my_train"] = module
    exec("\n".join(re.findall(r"```python\n(.+?)```", page, re.S)), module.__dict__)
    yield module
    del sys.modules["my_train"]
    BACKBONE_REGISTRY._obj_map.pop("build_pyramid")
    META_ARCH_REGISTRY._obj_map.pop("SOLOv2WithSmallKernels")
    METHODS.pop("SOLOv2WithSmallKernels")


def train(folder: Path, trainer: type[Trainer], *opts: Any) -> list[dict[str, Any]]:
    """Train for three iterations, and return the lines of metrics.json."""
    dataset = small_dataset(folder / "data").name
    cfg = run_cfg(dataset, folder / "run", "SOLVER.MAX_ITER", 3, *opts, test=dataset)
    write_cfg(folder / "config.yaml", cfg)
    assert main(["--config-file", str(folder / "config.yaml")], trainer) == 0
    return [json.loads(line) for line in (folder / "run" / "metrics.json").open()]


def test_the_page_works_as_it_stands(
    tmp_path: Path, my_train: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped: list[int] = []
    trained: list[list[bool]] = []
    original = my_train.BlurredMapper.__call__

    def count(self: Any, item: Any) -> Any:
        mapped.append(1)
        return original(self, item)

    class Watched(my_train.MyTrainer):  # type: ignore[name-defined]
        def after_step(self) -> None:
            grads = [p.grad is not None for p in self.raw_model.backbone.parameters()]
            trained.append(grads)
            super().after_step()

    monkeypatch.setattr(my_train.BlurredMapper, "__call__", count)
    opts = ["MODEL.BACKBONE.NAME", "build_pyramid", "DATALOADER.NUM_WORKERS", 0]
    lines = train(tmp_path, Watched, *opts)
    assert mapped
    assert [any(grads) for grads in trained] == [False, False, True]
    assert any("count/mean" in line for line in lines)
    weights = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["model"]
    assert "backbone.levels.p2.weight" in weights


def test_a_subclass_of_a_model_is_a_method(tmp_path: Path, my_train: ModuleType) -> None:
    name = "SOLOv2WithSmallKernels"
    opts = ["MODEL.META_ARCHITECTURE", name, "MODEL.SOLOV2.NUM_CLASSES", 0]
    lines = train(tmp_path, my_train.MyTrainer, *opts, "DATALOADER.NUM_WORKERS", 0)
    assert any(line.get("loss_kernels", 0) > 0 for line in lines)
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["MODEL"]
    assert written["CLASS_NAMES"] == ["cat", "dog"]
    assert written["SOLOV2"]["NUM_CLASSES"] == 2


def test_its_loss_is_the_same_in_parts(tmp_path: Path, my_train: ModuleType) -> None:
    opts = ["MODEL.META_ARCHITECTURE", "SOLOv2WithSmallKernels", "MODEL.SOLOV2.NUM_CLASSES", 0]
    opts += ["DATALOADER.NUM_WORKERS", 0, "INPUT.RANDOM_FLIP", "none", "SEED", 1]
    opts += ["MODEL.BACKBONE.FREEZE_AT", 5, "MODEL.RESNETS.NORM", "FrozenBN"]
    whole, parts = (
        train(tmp_path / str(count), Trainer, *opts, "SOLVER.ACCUMULATE", count) for count in (1, 2)
    )
    assert whole[0]["loss_kernels"] > 0
    for name in ("loss_kernels", "loss_class", "total_loss"):
        assert parts[0][name] == pytest.approx(whole[0][name], rel=1e-4), name


def test_hooks_run_between_backward_pass_and_step(tmp_path: Path) -> None:
    """DefaultTrainer of detectron2 calls `after_backward` of nothing that it is given."""
    if not hasattr(HookBase, "after_backward"):
        pytest.skip("this version of detectron2 has no such place")
    places: list[str] = []

    class Watching(HookBase):
        def after_backward(self) -> None:
            trainer: Any = self.trainer
            grads = [p.grad is not None for p in trainer.raw_model.parameters()]
            places.append(f"hook {any(grads)}")

    class Mine(Trainer):
        @classmethod
        def build_optimizer(cls, cfg: Any, model: Any) -> Any:
            optimizer = super().build_optimizer(cfg, model)
            optimizer.register_step_pre_hook(lambda *_: places.append("step"))
            return optimizer

        def build_hooks(self) -> Any:
            return [Watching(), *super().build_hooks()]

        def after_backward(self) -> None:
            places.append("trainer")
            super().after_backward()

    train(tmp_path, Mine)
    assert places == 3 * ["trainer", "hook True", "step"]


class Batches:
    """A loader of other code: an iterable of batches."""

    taken = 0

    def __init__(self, own: Any) -> None:
        self.own = own

    def __iter__(self) -> Iterator[Any]:
        for batch in self.own:
            Batches.taken += 1
            yield batch


def test_every_overridden_part_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    used: list[str] = []

    class Nothing(DatasetEvaluator):
        def evaluate(self) -> dict[str, dict[str, float]]:
            used.append("evaluator")
            return {"nothing": {"at_all": 1.0}}

    class Mine(Trainer):
        @classmethod
        def build_train_loader(cls, cfg: Any, mapper: Any = None) -> Any:
            return Batches(super().build_train_loader(cfg, mapper))

        @classmethod
        def build_test_loader(cls, cfg: Any, dataset_name: str) -> Any:
            used.append("test loader")
            return build_detection_test_loader(cfg, dataset_name)

        @classmethod
        def build_evaluator(cls, cfg: Any, dataset_name: str, output_folder: Any = None) -> Any:
            return Nothing()

        @classmethod
        def build_optimizer(cls, cfg: Any, model: Any) -> Any:
            used.append("optimizer")
            return torch.optim.RMSprop(model.parameters(), 1e-4)

        @classmethod
        def build_lr_scheduler(cls, cfg: Any, optimizer: Any) -> Any:
            used.append("scheduler")
            return super().build_lr_scheduler(cfg, optimizer)

        def build_hooks(self) -> Any:
            used.append("hooks")
            assert isinstance(self._trainer.optimizer, torch.optim.RMSprop)
            return super().build_hooks()

    lines = train(tmp_path, Mine)
    assert Batches.taken >= 3
    assert set(used) == {"evaluator", "test loader", "optimizer", "scheduler", "hooks"}
    assert any("nothing/at_all" in line for line in lines)
    assert "The training loader is not this package's (Batches)" in capsys.readouterr().out
