"""Masks of one pass that bools would be too large for, by every method, and where they go on to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer

from solo_family import METHODS, Predictor
from solo_family.evaluation.instance_results import instance_results
from solo_family.export.parity import instance_error
from solo_family.export.results import PredictedInstances
from solo_family.modeling.precision import shared_instances
from solo_family.ops import run_masks
from solo_family.ops.run_masks import RunMasks
from solo_family.tiling.model import TiledModel

from ..conftest import eager_to_find, picture, tiny_cfg, tiny_model
from ..predictor.test_predictor import tiny_run
from ..tiling.test_methods import record

HEIGHT, WIDTH = 133, 187
WAYS: list[tuple[str, tuple[Any, ...]]] = [(name, ()) for name in sorted(METHODS)]
WAYS += [
    ("InstanceFCN", ("MODEL.INSTANCE_FCN.NMS_TYPE", "matrix")),
    ("InstanceFCN", ("MODEL.INSTANCE_FCN.MASK_THR", 0.0)),
    ("SparseInst", ("MODEL.SPARSE_INST.NMS_TYPE", "matrix")),
    ("SOLOv2", ("MODEL.SOLOV2.GRID_REFERENCE_SIZE", (64, 64), "MODEL.SOLOV2.NMS_TYPE", "mask")),
]


def as_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Returns all masks as runs, which are made of five masks' bools at a time."""
    monkeypatch.setattr(run_masks, "DENSE_BYTES", 0)
    monkeypatch.setattr(run_masks, "_PART_BYTES", 5 * HEIGHT * WIDTH)


@pytest.mark.parametrize(("method", "opts"), WAYS)
def test_one_pass_gives_runs_of_the_same_pixels(
    method: str, opts: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = eager_to_find(tiny_model(method, opts=list(opts)), True)
    image = picture(64, 96) | {"height": HEIGHT, "width": WIDTH}
    with torch.no_grad():
        expected = model([image])[0]["instances"]
        as_runs(monkeypatch)
        found = model([image])[0]["instances"]
    assert isinstance(found.pred_masks, RunMasks)
    assert len(expected) > 5
    assert torch.equal(found.pred_masks.tensor, expected.pred_masks)
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.pred_classes, expected.pred_classes)


@pytest.fixture(scope="module")
def pairs() -> list[Instances]:
    """The instances of one image, with bools and with runs."""
    model = eager_to_find(tiny_model(), True)
    image = picture(64, 96) | {"height": HEIGHT, "width": WIDTH}
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        dense = model([image])[0]["instances"]
        as_runs(patch)
        return [dense, model([image])[0]["instances"]]


def test_evaluations_take_runs(pairs: list[Instances]) -> None:
    dense, runs = pairs
    assert instance_results(runs, 3) == instance_results(dense, 3)
    # detectron2's own, which the recall of proposals and LVIS's metrics go through.
    assert instances_to_coco_json(runs, 3) == instances_to_coco_json(dense, 3)
    # Cityscapes' metrics write one mask after another.
    assert np.array_equal(runs.pred_masks[2].numpy(), dense.pred_masks[2].numpy())


def test_comparisons_of_models_take_runs(pairs: list[Instances]) -> None:
    dense, runs = pairs
    assert shared_instances(runs, runs) == shared_instances(dense, runs) == 1.0
    even: Any = torch.arange(len(runs)) % 2 == 0
    fewer = runs[even]
    assert shared_instances(fewer, runs) == shared_instances(fewer, dense) < 1
    arrays = (dense.scores, dense.pred_classes, dense.pred_masks)
    exported = PredictedInstances(*(array.numpy() for array in arrays))
    assert instance_error(runs, exported) == instance_error(dense, exported) == 0


def test_detectron2_draws_runs(pairs: list[Instances], drawn_in_red: None) -> None:
    """As the pictures of a training's validation are drawn."""
    grey = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    some = [found[found.scores > found.scores[3]] for found in pairs]
    one, other = (Visualizer(grey).draw_instance_predictions(found).get_image() for found in some)
    assert np.array_equal(one, other)


def test_tiles_take_runs_of_large_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opts = ["INPUT.MIN_SIZE_TEST", 64, "TEST.TILE.OVERLAP", 16, "TEST.TILE.SIZE", 64]
    model = eager_to_find(tiny_model(opts=opts), True)
    item = record(tmp_path, 100, 150)
    tiled = TiledModel(model, tiny_cfg(opts=opts))
    (expected,) = tiled([item])
    as_runs(monkeypatch)
    (found,) = tiled([item])
    assert torch.equal(found["instances"].scores, expected["instances"].scores)
    assert torch.equal(found["instances"].pred_masks.tensor, expected["instances"].pred_masks)


def test_a_result_of_runs_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_run(tmp_path / "run")
    predict = Predictor(tmp_path / "run", confidence_threshold=0)
    photo = picture(60, 90)["image"].permute(1, 2, 0).numpy()
    dense = predict(photo, channels="RGB")
    as_runs(monkeypatch)
    runs = predict(photo, channels="RGB")
    assert isinstance(runs.instances.pred_masks, RunMasks)
    for name in ("masks", "boxes", "scores", "labels"):
        assert np.array_equal(getattr(runs, name), getattr(dense, name))
    assert runs.to_coco() == dense.to_coco()
    outlines = zip(runs.polygons(), dense.polygons(), strict=True)
    assert all(np.array_equal(a, b) for one, other in outlines for a, b in zip(one, other))
    painted = (runs.plot() != photo).any(axis=2)
    assert painted.any()
    assert not painted[~runs.masks.any(axis=0)].any()
    for folder, result in (("runs", runs), ("dense", dense)):
        result.save(tmp_path / folder, "coco", "label-map", "csv", "geojson", "labelme", "cutouts")
    files = sorted(path for path in (tmp_path / "runs").rglob("*") if path.is_file())
    assert len(files) > 5
    for path in files:
        other = tmp_path / "dense" / path.relative_to(tmp_path / "runs")
        assert path.read_bytes() == other.read_bytes(), path.name
