"""Semantic and panoptic training from end to end, in this process, on a handful of shapes."""

import json
from pathlib import Path

import pytest

from solo_family import METHODS
from solo_family.config import get_cfg
from solo_family.config.rules import get_key
from solo_family.data.formats.synthetic import make_shapes
from solo_family.engine.arguments import argument_parser
from solo_family.engine.main import run

from ..conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = make_shapes(
        tmp_path_factory.mktemp("data") / "s",
        num_train=4,
        num_val=2,
        image_size=(64, 96),
        stuff=True,
    )
    return {
        "semantic": f"semantic:{root}/train:{root}/labels/train:{root}/classes.txt",
        "panoptic": f"panoptic:{root}/train:{root}/panoptic/train:"
        f"{root}/annotations/panoptic_train.json",
    }


@pytest.mark.parametrize(
    ("config", "task", "metric"),
    [
        ("mask_former_semantic", "semantic", ("sem_seg", "mIoU")),
        ("mask_former_panoptic", "panoptic", ("panoptic_seg", "PQ")),
        ("sparse_inst_panoptic", "panoptic", ("panoptic_seg", "PQ")),
    ],
)
def test_the_quick_starts_train_evaluate_and_draw(
    tmp_path: Path, names: dict[str, str], config: str, task: str, metric: tuple[str, str]
) -> None:
    dataset = f"('{names[task]}',)"
    opts = [
        *("DATASETS.TRAIN", dataset, "DATASETS.TEST", dataset, "OUTPUT_DIR", str(tmp_path)),
        *("SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "(1,)", "SOLVER.IMS_PER_BATCH", "2"),
        *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "VIS_PERIOD", "1"),
        *("DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"),
    ]
    path = str(ROOT / "configs" / "quickstart" / f"{config}.yaml")
    results = run(argument_parser().parse_args(["--config-file", path, *opts]))
    kind, name = metric
    assert 0 <= results[kind][name] <= 100
    saved = get_cfg()
    saved.merge_from_file(str(tmp_path / "config.yaml"))
    num_classes = get_key(saved, METHODS[saved.MODEL.META_ARCHITECTURE].num_classes_key)
    assert len(saved.MODEL.CLASS_NAMES) == num_classes == 8
    assert ([5, 6, 7] if task == "panoptic" else list(range(8))) == saved.MODEL.STUFF_IDS
    last = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    assert {"loss_mask", "loss_dice"} <= set(last) or f"{kind}/{name}" in last


@pytest.mark.parametrize("method", ["mask_former", "sparse_inst"])
def test_two_real_images_train_and_are_evaluated(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setenv("DATA", str(data_root))
    opts = [
        *("SOLVER.MAX_ITER", "2", "SOLVER.WARMUP_ITERS", "1", "OUTPUT_DIR", str(tmp_path)),
        *("INPUT.MIN_SIZE_TRAIN", "(96,)", "INPUT.MIN_SIZE_TEST", "96", "MODEL.DEVICE", "cpu"),
        *("DATALOADER.NUM_WORKERS", "0"),
    ]
    path = str(ROOT / "configs" / "benchmarks" / f"coco_panoptic_two_{method}.yaml")
    results = run(argument_parser().parse_args(["--config-file", path, *opts]))["panoptic_seg"]
    assert {"PQ", "SQ", "RQ", "PQ_th", "PQ_st"} <= set(results)
    logged = (tmp_path / "metrics.json").read_text()
    assert '"loss_mask"' in logged
    assert "NaN" not in logged
