"""Exported models against the models that they were made from, at toy width."""

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import Metadata
from detectron2.engine import DefaultPredictor

from solo_family.export.parity import instance_error, random_images
from solo_family.export.runtime import ExportedModel
from solo_family.export.write import Options, export_model

from ..conftest import eager_to_find, tiny_cfg, tiny_model

METADATA = Metadata(thing_classes=["a", "b", "c"])
INSTANCES = ["SOLO", "DecoupledSOLO", "SOLOv2", "SparseInst"]
# The last: all candidates of so small a grid are looked at.
OPTS = {
    "SOLO": ["MODEL.SOLO.NMS_PRE", 2000],
    "DecoupledSOLO": ["MODEL.SOLO.NMS_PRE", 2000],
    "SOLOv2": ["MODEL.SOLOV2.NMS_PRE", 2000],
}
SMALL = ["INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 128]


def export(method: str, folder: Path, **options) -> DefaultPredictor:
    """Exports a tiny model, and returns what predicts with the model itself."""
    opts = [*SMALL, *OPTS.get(method, [])]
    cfg = tiny_cfg(method, opts=opts)
    predictor = DefaultPredictor(cfg)
    predictor.model = eager_to_find(tiny_model(method, opts=opts))
    export_model(predictor.model, cfg, METADATA, folder, Options(**options))
    return predictor


def picture_of(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Returns uint8 [H, W, 3]."""
    return random_images(1, size, seed)[0].permute(1, 2, 0).numpy().astype(np.uint8)


@pytest.mark.parametrize("method", INSTANCES)
def test_an_exported_model_finds_what_the_model_finds(method: str, tmp_path: Path) -> None:
    predictor = export(method, tmp_path / "exported")
    exported = ExportedModel(tmp_path / "exported")
    for seed, size in enumerate([(64, 96), (130, 70), (50, 100)]):
        picture = picture_of(size, seed)
        found = exported(picture).instances
        assert found is not None
        assert len(found) > 0
        assert instance_error(predictor(picture)["instances"], found) < 1e-3
