"""Recipes that begin with a run: what of its configuration goes on, and what does not."""

from pathlib import Path
from typing import Any

import pytest
import torch

from solo_family import METHODS
from solo_family.config import get_cfg
from solo_family.config.rules import get_key
from solo_family.engine.main import store_classes

from ..coco_folder import small_dataset, write_cfg
from ..conftest import tiny_cfg, tiny_model
from ..data.segments import write_semantic
from .test_init import FAST, config_of, init, train_one_step, write_run
from .test_init_opts import five_channels
from .test_init_opts import write as write_images


@pytest.fixture
def data(tmp_path: Path) -> str:
    return small_dataset(tmp_path / "data", images=6).name


def test_what_a_run_had_for_its_own_data_is_not_taken_over(data: str, tmp_path: Path) -> None:
    write_run(tmp_path / "run", "SOLOv2", ["bird", "cat"])
    # Each would have ended the new training, or spoilt it: the dataset is another one, of few
    # images, in smaller batches.
    keys: list[Any] = ["SOLVER.ACCUMULATE", 4, "SOLVER.OPTIMIZER", "SGD", "SOLVER.NESTEROV", True]
    keys += ["SOLVER.BASE_LR_END", 0.5, "DATASETS.TRAIN_REPEAT_FACTOR", [["mine", 3.0]]]
    keys += ["DATALOADER.SAMPLER_TRAIN", "WeightedTrainingSampler"]
    keys += ["INPUT.CROP.AROUND_OBJECTS", [64, 64]]
    keys += ["TEST.TILE.SIZE", 64, "TEST.TILE.OVERLAP", 16, "TEST.EARLY_STOP_PATIENCE", 1]
    keys += ["TEST.EXPECTED_RESULTS", [["mine", "segm", "AP", 99.0, 1.0]]]
    keys += ["SOLVER.BIAS_LR_FACTOR", 2.0]
    names: list[Any] = ["MODEL.CLASS_NAMES", ["bird", "cat"], "DATASETS.TRAIN", ("mine",)]
    names += ["TEST.EVAL_PERIOD", 1, "TEST.BEST_METRIC", "segm/AP"]
    write_cfg(tmp_path / "run" / "config.yaml", tiny_cfg("SOLOv2", 2, [*names, *keys]))
    assert init(tmp_path, "--train", data, "--from", str(tmp_path / "run"), *FAST) == 0
    cfg, defaults = config_of(tmp_path), get_cfg()
    for key in keys[::2]:
        if key not in ("SOLVER.OPTIMIZER", "SOLVER.BIAS_LR_FACTOR"):
            assert get_key(cfg, key) == get_key(defaults, key), key
    assert cfg.SOLVER.BIAS_LR_FACTOR == 2.0  # how its owner trains, whatever the data are
    assert train_one_step(tmp_path / "new" / "my.yaml", tmp_path / "output")


FIVE: list[Any] = ["INPUT.FORMAT", "5ch", "MODEL.PIXEL_MEAN", [9.0] * 5]
FIVE += ["MODEL.PIXEL_STD", [50.0] * 5, "MODEL.CLASS_NAMES", ["cell"], "DATASETS.TRAIN", ()]


def write_run_of_five_channels(folder: Path) -> None:
    folder.mkdir()
    write_cfg(folder / "config.yaml", tiny_cfg("SOLOv2", 1, FIVE))
    weights = tiny_model("SOLOv2", 1, FIVE).state_dict()
    torch.save({"model": weights}, folder / "model_final.pth")


def test_images_are_read_as_the_run_has_read_them(tmp_path: Path) -> None:
    write_run_of_five_channels(tmp_path / "run")
    images = write_images(tmp_path / "images", ".npy", five_channels)
    assert init(tmp_path, "--train", images, "--from", str(tmp_path / "run"), *FAST) == 0
    cfg = config_of(tmp_path)
    assert (cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN) == ("5ch", [9.0] * 5)
    assert train_one_step(tmp_path / "new" / "my.yaml", tmp_path / "output")


def test_images_that_the_model_of_a_run_does_not_take_are_refused(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run_of_five_channels(tmp_path / "run")
    assert init(tmp_path, "--train", data, "--from", str(tmp_path / "run"), *FAST) == 2
    error = capsys.readouterr().err
    assert "images of another number of channels than INPUT.FORMAT" in error
    assert "RGB for 3" in error  # not the run's own format again


def test_things_are_found_where_a_run_had_stuff(data: str, tmp_path: Path) -> None:
    """Scores of stuff are put below all others, so that such a class would never be found."""
    classes = ["MODEL.CLASS_NAMES", ["road", "dog", "cat"], "MODEL.STUFF_IDS", [0, 1, 2]]
    write_run(tmp_path / "run", "MaskFormer", ["road", "dog", "cat"])
    path = tmp_path / "run" / "config.yaml"
    write_cfg(path, tiny_cfg("MaskFormer", 3, [*classes, "DATASETS.TRAIN", ()]))
    assert init(tmp_path, "--train", data, "--from", str(tmp_path / "run"), *FAST) == 0
    assert not config_of(tmp_path).MODEL.STUFF_IDS
    # By hand, as docs/finetune.md writes it, the run's lines stay.
    key = METHODS["MaskFormer"].num_classes_key
    by_hand = tiny_cfg("MaskFormer", 3, [*classes, "DATASETS.TRAIN", (data,), key, 0])
    store_classes(by_hand, key)
    assert by_hand.MODEL.CLASS_NAMES == ["cat", "dog"]
    assert not by_hand.MODEL.STUFF_IDS


FIXED: list[Any] = ["MODEL.MASK_FORMER.MATCHING", "fixed", "MODEL.MASK_FORMER.DICE_WEIGHT", 5.0]
FIXED += ["MODEL.MASK_FORMER.TEST.PANOPTIC_ON", False, "MODEL.MASK_FORMER.TEST.INSTANCE_ON", False]


def write_run_of_fixed_queries(folder: Path, classes: list[str], further: int) -> torch.Tensor:
    """Write a run in which query k learned class k, and return the queries."""
    queries: list[Any] = ["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", len(classes) + further]
    keys = [*FIXED, *queries, "MODEL.CLASS_NAMES", classes, "DATASETS.TRAIN", ()]
    folder.mkdir()
    write_cfg(folder / "config.yaml", tiny_cfg("MaskFormer", len(classes), keys))
    weights = tiny_model("MaskFormer", len(classes), keys).state_dict()
    torch.save({"model": weights}, folder / "model_final.pth")
    return weights["sem_seg_head.predictor.query_embed.weight"]


@pytest.mark.parametrize("further", [0, 2])
def test_with_fixed_matching_queries_stay_with_their_classes(further: int, tmp_path: Path) -> None:
    old = write_run_of_fixed_queries(tmp_path / "run", ["sign", "river", "sky", "sea"], further)
    labels = write_semantic(tmp_path / "data", classes="sky,road,sign")
    assert init(tmp_path, "--train", labels, "--from", str(tmp_path / "run"), *FAST) == 0
    cfg = config_of(tmp_path)
    assert cfg.MODEL.MASK_FORMER.MATCHING == "fixed"
    assert cfg.MODEL.MASK_FORMER.DICE_WEIGHT == 5.0
    assert 3 + further == cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES
    weights = torch.load(cfg.MODEL.WEIGHTS, weights_only=True)["model"]
    new = weights["sem_seg_head.predictor.query_embed.weight"]
    assert len(new) == 3 + further
    for row, old_row in [(0, 2), (2, 0), *((3 + k, 4 + k) for k in range(further))]:
        assert torch.equal(new[row], old[old_row])
    assert train_one_step(tmp_path / "new" / "my.yaml", tmp_path / "output")


def test_objects_are_not_learned_with_a_query_for_each_class(data: str, tmp_path: Path) -> None:
    write_run_of_fixed_queries(tmp_path / "run", ["cat", "dog"], 0)
    assert init(tmp_path, "--train", data, "--from", str(tmp_path / "run"), *FAST) == 0
    cfg = config_of(tmp_path)
    assert cfg.MODEL.MASK_FORMER.MATCHING == "bipartite"
    assert cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES == 100
    assert cfg.MODEL.MASK_FORMER.DICE_WEIGHT == 1.0
    assert train_one_step(tmp_path / "new" / "my.yaml", tmp_path / "output")
