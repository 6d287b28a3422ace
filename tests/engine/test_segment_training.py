"""Semantic and panoptic training from end to end, in this process, on a handful of shapes."""

import json
from pathlib import Path

import pytest

from solo_family.config import get_cfg
from solo_family.data.synthetic import make_shapes
from solo_family.engine.main import argument_parser, run

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
    ("task", "metric"), [("semantic", ("sem_seg", "mIoU")), ("panoptic", ("panoptic_seg", "PQ"))]
)
def test_the_quick_starts_train_evaluate_and_draw(
    tmp_path: Path, names: dict[str, str], task: str, metric: tuple[str, str]
) -> None:
    dataset = f"('{names[task]}',)"
    opts = [
        *("DATASETS.TRAIN", dataset, "DATASETS.TEST", dataset, "OUTPUT_DIR", str(tmp_path)),
        *("SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "(1,)", "SOLVER.IMS_PER_BATCH", "2"),
        *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "VIS_PERIOD", "1"),
        *("DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"),
    ]
    config = str(ROOT / "configs" / "quickstart" / f"mask_former_{task}.yaml")
    results = run(argument_parser().parse_args(["--config-file", config, *opts]))
    kind, name = metric
    assert 0 <= results[kind][name] <= 100
    saved = get_cfg()
    saved.merge_from_file(str(tmp_path / "config.yaml"))
    assert len(saved.MODEL.CLASS_NAMES) == saved.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 8
    assert ([5, 6, 7] if task == "panoptic" else list(range(8))) == saved.MODEL.STUFF_IDS
    last = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    assert {"loss_ce", "loss_mask", "loss_dice"} <= set(last) or f"{kind}/{name}" in last
