"""Tiny exported models, with what predicts with the models that they were made from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.data import Metadata
from detectron2.engine import DefaultPredictor

from solo_family.export.parity import random_images
from solo_family.export.write import Options, export_model

from ..conftest import eager_to_find, tiny_cfg, tiny_model

NAMES = ("a", "b", "c")
METADATA = Metadata(thing_classes=list(NAMES))
# All candidates of so small a grid, all windows of so small a map are looked at.
ALL_CANDIDATES = {
    "SOLO": ["MODEL.SOLO.NMS_PRE", 2000],
    "DecoupledSOLO": ["MODEL.SOLO.NMS_PRE", 2000],
    "SOLOv2": ["MODEL.SOLOV2.NMS_PRE", 2000],
    "InstanceFCN": ["MODEL.INSTANCE_FCN.NMS_PRE", 1000],
}
SMALL = ["INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 128]


def export(
    method: str,
    folder: Path,
    opts: list | None = None,
    found: bool = True,
    names: Sequence[str] = NAMES,
    **options,
) -> DefaultPredictor:
    """Exports a tiny model, and returns what predicts with the model itself."""
    opts = [*SMALL, *(opts or ALL_CANDIDATES.get(method, []))]
    cfg = tiny_cfg(method, len(names), opts)
    predictor = DefaultPredictor(cfg)
    predictor.model = eager_to_find(tiny_model(method, len(names), opts), found)
    metadata = Metadata(thing_classes=list(names))
    export_model(predictor.model, cfg, metadata, folder, Options(**options))
    return predictor


def picture_of(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Returns uint8 [H, W, 3]."""
    return random_images(1, size, seed)[0].permute(1, 2, 0).numpy().astype(np.uint8)
