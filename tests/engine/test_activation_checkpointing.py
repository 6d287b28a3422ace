"""Training with `SOLVER.ACTIVATION_CHECKPOINTING` or `COMPILE`: the same run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.utils.env import seed_all_rng

from solo_family.engine.trainer import Trainer
from solo_family.engine.wrappers import adapt

from ..coco_folder import run_cfg, small_dataset
from ..conftest import tiny_cfg, tiny_model
from .test_resume import assert_equal

OPTS: list[Any] = [
    *("SOLVER.EMA.ENABLED", True, "SOLVER.ACCUMULATE", 2),
    *("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.PRECISION", "bfloat16", "SEED", 1),
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.CHECKPOINT_PERIOD", 1),
]


def train(
    data: str, output: Path, on: bool, *, iterations: int = 2, resume: bool = False
) -> dict[str, Any]:
    """Returns the final checkpoint, without the settings of the run."""
    seed_all_rng(0)
    opts = [*OPTS, "SOLVER.MAX_ITER", iterations, "SOLVER.ACTIVATION_CHECKPOINTING", on]
    trainer = Trainer(run_cfg(data, output, *opts))
    trainer.resume_or_load(resume=resume)
    trainer.train()
    final = torch.load(output / "model_final.pth", weights_only=True)
    del final["trainer"]["settings"]
    return final


def test_a_run_is_the_same(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data").name
    plain, other = tmp_path / "plain", tmp_path / "other"
    for folder in (plain, other):
        folder.mkdir()
    expected = train(data, plain, False, iterations=1)
    assert_equal(expected, train(data, other, True, iterations=1))


@pytest.mark.slow
@pytest.mark.parametrize("on", [False, True])
def test_a_run_goes_on_with_the_other_setting(tmp_path: Path, on: bool) -> None:
    data = small_dataset(tmp_path / "data").name
    whole = train(data, tmp_path, on)
    (tmp_path / "model_final.pth").unlink()
    (tmp_path / "last_checkpoint").write_text("model_0000000.pth")
    assert_equal(whole, train(data, tmp_path, not on, resume=True))


@pytest.mark.parametrize("compiled", [False, True])
def test_compiled_heads_are_not_computed_again(compiled: bool) -> None:
    """A compiler chooses what it computes again; the backbone is not compiled."""
    model, plain = tiny_model("SparseInst"), tiny_model("SparseInst")
    opts = ["SOLVER.ACTIVATION_CHECKPOINTING", True, "SOLVER.COMPILE", compiled]
    adapt(model, tiny_cfg("SparseInst", opts=opts))
    assert hasattr(model.encoder, "compilation") == compiled
    assert type(model.decoder) is not type(plain.decoder) or not compiled
    branch, block = model.decoder.instance_branch, model.backbone.res2[0]
    assert (type(branch) is type(plain.decoder.instance_branch)) == compiled
    assert type(block) is not type(plain.backbone.res2[0])
