"""Crops and jitter of labels that are pictures: every key acts, whichever mapper there is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from solo_family.data.formats.register import register_in_place
from solo_family.data.loading.loader import build_train_mapper
from solo_family.errors import ConfigError

from ...conftest import tiny_cfg
from ..segments import HEIGHT, WIDTH, write_panoptic, write_semantic

_JITTER = ("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.IMAGE_SIZE", 96)
_CROP = (*("INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", (30, 30)),)


def _sizes(folder: Path, mapper: str, *opts: Any, method: str = "MaskFormer") -> set[tuple]:
    """The sizes of many augmented images."""
    panoptic = mapper != "mask_former_semantic"
    name = write_panoptic(folder)[0] if panoptic else write_semantic(folder)
    keys: tuple[Any, ...]
    keys = ("INPUT.MIN_SIZE_TRAIN", (HEIGHT,), "INPUT.MAX_SIZE_TRAIN", 400, "INPUT.FORMAT", "RGB")
    keys += ("DATASETS.TRAIN", (name,), "INPUT.DATASET_MAPPER_NAME", mapper)
    register_in_place([name])
    records = DatasetCatalog.get(name)
    build = build_train_mapper(tiny_cfg(method, 0, [*keys, *opts]), records)
    np.random.seed(0)
    return {tuple(build(record)["sem_seg"].shape) for record in records * 8}


_MAPPERS = ["mask_former_semantic", "mask_former_panoptic", "detr_panoptic"]


@pytest.mark.parametrize("mapper", _MAPPERS)
def test_jitter_is_of_every_mapper(tmp_path: Path, mapper: str) -> None:
    assert _sizes(tmp_path, mapper, *_JITTER) == {(96, 96)}


@pytest.mark.parametrize("mapper", _MAPPERS)
def test_short_edges_of_the_crop_are_of_every_mapper(tmp_path: Path, mapper: str) -> None:
    sizes = _sizes(tmp_path, mapper, *_CROP, "INPUT.CROP.SHORT_EDGES", (30,))
    # Half of the images are whole; the others are 30 x 30 pixels, resized.
    assert sizes == {(HEIGHT, WIDTH), (HEIGHT, HEIGHT)}


def test_sparseinst_crops_all_segments_unless_short_edges_are_set(tmp_path: Path) -> None:
    """Its own short edges are of its published crop of instances."""
    sizes = _sizes(tmp_path, "mask_former_panoptic", *_CROP, method="SparseInst")
    assert sizes == {(30, 30)}


@pytest.mark.parametrize("mapper", _MAPPERS)
def test_a_crop_beside_jitter_is_refused(tmp_path: Path, mapper: str) -> None:
    with pytest.raises(ConfigError, match=r"^INPUT\.CROP\.ENABLED is True with INPUT\.LSJ\."):
        _sizes(tmp_path, mapper, *_CROP, *_JITTER)
