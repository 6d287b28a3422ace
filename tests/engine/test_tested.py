"""What an evaluation lets the model leave out."""

from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator

from solo_family.data.formats.register import register_in_place
from solo_family.engine.tested import as_tested
from solo_family.engine.trainer import Trainer
from solo_family.modeling.inference import inference_model

from ..conftest import tiny_cfg, tiny_model
from ..data.segments import write_panoptic, write_semantic


class Remembering(DatasetEvaluator):
    """Remember which results there are."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def process(self, _: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        self.seen.update(*outputs)

    def evaluate(self) -> dict[str, Any]:
        return {"seen": sorted(self.seen)}


class OwnTrainer(Trainer):
    """A user's trainer."""

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, *_: Any) -> DatasetEvaluator:
        return Remembering()


EVERYTHING = ["instances", "panoptic_seg", "sem_seg"]


def config(folder: Path, *names: str, **more: Any) -> CfgNode:
    register_in_place(names)
    keys = {"DATASETS.TEST": names, "OUTPUT_DIR": str(folder), "DATALOADER.NUM_WORKERS": 0, **more}
    return tiny_cfg("MaskFormer", opts=[word for pair in keys.items() for word in pair])


@pytest.mark.parametrize("kinds", ["panoptic", "panoptic, semantic"])
def test_the_scores_of_every_class_are_made_if_they_are_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: str
) -> None:
    names = [write_panoptic(tmp_path / "p")[0]]
    if "semantic" in kinds:
        names.append(write_semantic(tmp_path / "s"))
    model, seen = tiny_model("MaskFormer").eval(), Remembering()
    inner = model.forward

    def forward(inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        outputs = inner(inputs)
        seen.process(inputs, outputs)
        return outputs

    monkeypatch.setattr(model, "forward", forward)
    Trainer.test(config(tmp_path, *names), model)
    assert seen.evaluate()["seen"] == EVERYTHING[: 3 if "semantic" in kinds else 2]


def test_evaluators_of_others_get_everything(tmp_path: Path) -> None:
    cfg = config(tmp_path, write_panoptic(tmp_path / "p")[0])
    model = tiny_model("MaskFormer").eval()
    assert OwnTrainer.test(cfg, model)["seen"] == EVERYTHING
    assert Trainer.test(cfg, model, [Remembering()])["seen"] == EVERYTHING


@pytest.mark.parametrize(
    ("aug", "tile", "trains"),
    [(True, 0, False), (True, 96, False), (False, 96, False), (True, 0, True)],
)
def test_a_wrapped_model_is_left_in_its_mode(
    tmp_path: Path, aug: bool, tile: int, trains: bool
) -> None:
    """One that was prepared for inference, as those of `--eval-only`, can't be trained."""
    tasks = {f"MODEL.MASK_FORMER.TEST.{task}_ON": False for task in ("PANOPTIC", "INSTANCE")}
    keys = {"TEST.AUG.ENABLED": aug, "TEST.AUG.MIN_SIZES": (32, 48), "TEST.TILE.SIZE": tile}
    cfg = config(tmp_path, write_semantic(tmp_path / "s"), **tasks, **keys)
    model = tiny_model("MaskFormer", opts=[word for pair in tasks.items() for word in pair])
    tested = model.train() if trains else inference_model(model.eval(), cfg)
    assert Trainer.test(cfg, as_tested(cfg, tested))["sem_seg"]
    assert {part.training for part in tested.modules()} == {trains}


def test_the_average_is_evaluated_without_the_scores_that_nobody_reads(tmp_path: Path) -> None:
    name = write_panoptic(tmp_path / "p")[0]
    more = {"DATASETS.TRAIN": (name,), "SOLVER.EMA.ENABLED": True, "SOLVER.IMS_PER_BATCH": 1}
    trainer = Trainer(config(tmp_path, name, **more))
    seen = Remembering()
    trainer.raw_model.register_forward_hook(lambda _, inputs, outputs: seen.process([], outputs))
    trainer.raw_model.eval()
    assert set(trainer.evaluate()) == {"panoptic_seg", "panoptic_seg_ema"}
    assert seen.evaluate()["seen"] == EVERYTHING[:2]
