"""Which evaluator a dataset gets."""

from pathlib import Path

import pytest

from solo_family.data.formats.register import register_in_place
from solo_family.errors import ConfigError
from solo_family.evaluation.build import build_evaluator
from solo_family.evaluation.instance_results import InstanceEvaluator
from solo_family.evaluation.panoptic_quality import PanopticEvaluator
from solo_family.evaluation.semantic import SemanticEvaluator

from ..conftest import tiny_cfg
from ..data.segments import write_panoptic, write_semantic

TEST = "MODEL.MASK_FORMER.TEST"
SEMANTIC_ONLY = [f"{TEST}.PANOPTIC_ON", False, f"{TEST}.INSTANCE_ON", False]


def test_labels_decide(tmp_path: Path, shapes: Path) -> None:
    names = {
        SemanticEvaluator: write_semantic(tmp_path / "a"),
        PanopticEvaluator: write_panoptic(tmp_path / "b")[0],
        InstanceEvaluator: f"coco_json:{shapes}/annotations/val.json:{shapes}/val",
    }
    register_in_place(names.values())
    for kind, name in names.items():
        evaluator = build_evaluator(tiny_cfg("MaskFormer"), name, str(tmp_path / "out"))
        assert type(evaluator) is kind


def test_a_task_that_the_model_does_not_do_is_named(tmp_path: Path) -> None:
    name = write_panoptic(tmp_path)[0]
    register_in_place([name])
    said = r"coco_panoptic_seg.*predicts semantic\. Set MODEL\.MASK_FORMER\.TEST"
    with pytest.raises(ConfigError, match=said):
        build_evaluator(tiny_cfg("MaskFormer", opts=SEMANTIC_ONLY), name, "")
    with pytest.raises(ConfigError, match="predicts instance"):
        build_evaluator(tiny_cfg("SOLOv2"), name, "")


def test_detectron2s_semantic_segmentor_is_semantic(tmp_path: Path) -> None:
    name = write_semantic(tmp_path)
    register_in_place([name])
    cfg = tiny_cfg("MaskFormer", opts=["MODEL.META_ARCHITECTURE", "SemanticSegmentor"])
    assert type(build_evaluator(cfg, name, "")) is SemanticEvaluator
