"""Quick starts and every augmentation, killed and resumed: equal to the bit, with other workers."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.engine.hooks import CallbackHook

from solo_family.config import setup_cfg
from solo_family.data.formats.synthetic import make_shapes
from solo_family.engine.main import main as train_net
from solo_family.engine.trainer import Trainer
from solo_family.evaluation.build import predicted_tasks

from ..coco_folder import run_cfg, small_dataset, write_cfg
from ..conftest import ROOT
from ..forked import Forked
from .test_resume import assert_equal

QUICK_STARTS = sorted(
    path.stem for path in (ROOT / "configs" / "quickstart").glob("*.yaml") if path.stem[0] != "B"
)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(root, num_train=6, num_val=1, image_size=(64, 96), stuff=True)
    panoptic = f"{root}/panoptic/train:{root}/annotations/panoptic_train.json"
    return {
        "instance": f"coco_json:{root}/annotations/train.json:{root}/train",
        "semantic": f"semantic:{root}/train:{root}/labels/train:{root}/classes.txt",
        "panoptic": f"panoptic:{root}/train:{panoptic}",
    }


def kill_after(iteration: int) -> None:
    """Has the run of this process killed after an iteration."""

    def kill(trainer: Any) -> None:
        if trainer.iter == iteration:
            os.kill(os.getpid(), signal.SIGKILL)

    build = Trainer.build_hooks
    Trainer.build_hooks = lambda self: [*build(self), CallbackHook(after_step=kill)]


def assert_the_same_run(root: Path, words: list[Any], iterations: int, kill_at: int) -> None:
    """A run without workers equals one with two that is killed and goes on with one."""
    words = [*words, "SOLVER.MAX_ITER", iterations, "SOLVER.CHECKPOINT_PERIOD", 2]
    states = []
    for name, kill_them in (("whole", False), ("killed", True)):
        options = [*words, "OUTPUT_DIR", root / name]
        if kill_them:
            first = [*options, "DATALOADER.NUM_WORKERS", 2]
            with Forked(train_net, first, root, partial(kill_after, kill_at)) as run:
                assert run.status() == -signal.SIGKILL, run.printed
            assert not (root / name / "model_final.pth").exists()
            options += ["--resume", "DATALOADER.NUM_WORKERS", 1]
        else:
            options += ["DATALOADER.NUM_WORKERS", 0]
        # Flags come before keys.
        flags = [word for word in options if word == "--resume"]
        keys = [word for word in options if word != "--resume"]
        with Forked(train_net, [*flags, *keys], root) as run:
            assert run.status() == 0, run.printed
        states.append(torch.load(root / name / "model_final.pth", weights_only=True))
    assert_equal(*states)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK_STARTS)
def test_a_quick_start_is_the_same_run(tmp_path: Path, datasets: dict[str, str], name: str) -> None:
    config = ROOT / "configs" / "quickstart" / f"{name}.yaml"
    predicted = predicted_tasks(setup_cfg(str(config), []))
    task = next((task for task in ("panoptic", "semantic") if task in predicted), "instance")
    words = [
        *("--config-file", config, "DATASETS.TRAIN", f"('{datasets[task]}',)"),
        *("INPUT.MIN_SIZE_TRAIN", "(48,64)", "SOLVER.IMS_PER_BATCH", 2, "DATASETS.TEST", "()"),
        *("MODEL.DEVICE", "cpu", "SOLVER.WARMUP_ITERS", 1),
    ]
    assert setup_cfg(str(config), []).INPUT.RANDOM_FLIP == "horizontal"
    assert_the_same_run(tmp_path, words, 4, 2)


COLOURS: list[Any] = ["INPUT.COLOR_AUG.ENABLED", True, "INPUT.COLOR_AUG_SSD", True]
CROP: list[Any] = ["INPUT.CROP.ENABLED", True, "INPUT.CROP.SHORT_EDGES", (40, 50)]
LSJ: list[Any] = ["INPUT.LSJ.ENABLED", True, "INPUT.LSJ.IMAGE_SIZE", 64]
EMA: list[Any] = ["SOLVER.EMA.ENABLED", True, "SOLVER.AMP.ENABLED", True]
BFLOAT16: list[Any] = ["SOLVER.AMP.PRECISION", "bfloat16", "INPUT.RANDOM_FLIP", "horizontal"]


FLIP: list[Any] = ["INPUT.RANDOM_FLIP", "horizontal"]
PASTE: list[Any] = ["INPUT.COPY_PASTE.ENABLED", True, "INPUT.COPY_PASTE.BLEND", 1.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "opts",
    [
        pytest.param([*FLIP, *PASTE], id="flip"),
        pytest.param([*COLOURS, *CROP, *EMA, *BFLOAT16], id="crop"),
        pytest.param([*LSJ, *COLOURS], id="jitter"),
    ],
)
def test_every_augmentation_is_the_same_run(tmp_path: Path, opts: list[Any]) -> None:
    dataset = small_dataset(tmp_path / "data", images=7).name
    cfg = run_cfg(dataset, tmp_path / "run", *opts)
    words = ["--config-file", write_cfg(tmp_path / "config.yaml", cfg)]
    assert_the_same_run(tmp_path, words, 4, 2)
