"""Losses on validation images: those of training, without augmentation, and nothing changes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from torch import nn

from solo_family.config import check_config
from solo_family.data.formats.register import register_in_place
from solo_family.data.loading.loss_loader import build_loss_loader
from solo_family.engine.trainer import Trainer
from solo_family.engine.validation_loss import validation_losses
from solo_family.errors import ConfigError

from ..coco_folder import CocoFolder, noise, rectangle, run_cfg, small_dataset
from ..conftest import METHODS, tiny_cfg, tiny_model
from ..data.segments import write_panoptic, write_semantic

AUGMENTED = [
    *("INPUT.RANDOM_FLIP", "horizontal", "INPUT.COLOR_AUG.ENABLED", True),
    *("INPUT.CROP.ENABLED", True, "INPUT.COPY_PASTE.ENABLED", True),
]


def losses_of(model: nn.Module, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return model(batch)


def random_numbers() -> Any:
    """The state of numpy's generator."""
    state: Any = np.random.get_state()
    return state[1].copy()


@pytest.mark.parametrize("method", METHODS)
def test_the_mean_over_images_and_nothing_changes(tmp_path: Path, method: str) -> None:
    name = small_dataset(tmp_path / "data", images=5).name
    opts = ["DATASETS.TRAIN", (name,), "INPUT.MIN_SIZE_TEST", 48, "SOLVER.IMS_PER_BATCH", 2]
    cfg = tiny_cfg(method, 0, [*opts, *AUGMENTED, "DATALOADER.NUM_WORKERS", 0])
    model = tiny_model(method, 2).train()
    model.backbone.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    state, numbers = torch.get_rng_state(), random_numbers()
    loader = build_loss_loader(cfg, name)
    first = validation_losses(model, losses_of, loader)
    # Without gradients, nor anything else of a step.
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(random_numbers(), numbers)
    assert validation_losses(model, losses_of, loader) == first
    # Images in pairs of one orientation: tall, tall; tall, wide; wide.
    batches = list(loader)
    assert [[Path(i["file_name"]).stem for i in batch] for batch in batches] == [
        *(["0", "2"], ["4", "1"], ["3"])
    ]
    model.eval()
    model.training = True
    sums: dict[str, float] = {}
    for batch in batches:
        torch.manual_seed(0)
        with torch.no_grad():
            for key, value in model(batch).items():
                sums[key] = sums.get(key, 0.0) + float(value) * len(batch)
    if method != "InstanceFCN":  # which draws windows
        for key, value in sums.items():
            assert first[key] == pytest.approx(value / 5)
    assert first["total_loss"] == pytest.approx(sum(v for k, v in first.items() if k[0] == "l"))


def cfg_of(root: Path, *opts: Any) -> CfgNode:
    """The validation set has the classes in another order."""
    train = small_dataset(root / "train").name
    folder = CocoFolder(root / "val", {1: "dog", 2: "cat"})
    for index in range(3):
        boxes = [rectangle(5 + index, 8, 20, 24, category_id=2 - index % 2)]
        folder.add(f"{index}.png", noise(48, 64, seed=index), boxes)
    cfg = run_cfg(train, root / "run", *opts, test=folder.write())
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    return cfg


def test_classes_are_the_model_s_and_images_those_of_inference(tmp_path: Path) -> None:
    opts = ["MODEL.CLASS_NAMES", ["cat", "dog"], *AUGMENTED, "INPUT.MIN_SIZE_TEST", 96]
    cfg = cfg_of(tmp_path, *opts)
    items = [item for batch in build_loss_loader(cfg, cfg.DATASETS.TEST[0]) for item in batch]
    assert [item["instances"].gt_classes.tolist() for item in items] == [[0], [1], [0]]
    assert {tuple(item["image"].shape) for item in items} == {(3, 96, 128)}
    for item in items:
        (box,) = item["instances"].gt_boxes.tensor.tolist()
        left = 2 * (5 + int(Path(item["file_name"]).stem))
        assert box == [left, 16, left + 40, 64]


@pytest.mark.slow
def test_a_run_logs_them_and_is_otherwise_the_same(tmp_path: Path) -> None:
    opts = ["TEST.EVAL_PERIOD", 1, "SOLVER.MAX_ITER", 2, "SOLVER.EMA.ENABLED", True]
    weights, lines = [], []
    for on in (False, True):
        cfg = cfg_of(tmp_path / str(on), *opts, *AUGMENTED, "TEST.EVAL_LOSS", on)
        torch.manual_seed(0)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()
        weights.append(torch.load(Path(cfg.OUTPUT_DIR) / "model_final.pth", weights_only=False))
        text = (Path(cfg.OUTPUT_DIR) / "metrics.json").read_text().splitlines()
        lines.append([json.loads(line) for line in text])
    for key, value in weights[0]["model"].items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(weights[1]["model"][key])), key
    assert not any("validation" in key for line in lines[0] for key in line)
    logged = [line for line in lines[1] if "validation/total_loss" in line]
    assert logged
    names = {key for key in logged[-1] if key.startswith("validation/")}
    assert names == {f"validation/{end}" for end in ("total_loss", "loss_class", "loss_dice")}


@pytest.mark.parametrize("kind", ["semantic", "panoptic"])
def test_labels_that_are_pictures(tmp_path: Path, kind: str) -> None:
    name = write_semantic(tmp_path) if kind == "semantic" else write_panoptic(tmp_path)[0]
    register_in_place([name])
    opts = ["DATASETS.TRAIN", (name,), "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2]
    cfg = tiny_cfg("MaskFormer", 0, [*opts, "INPUT.MIN_SIZE_TEST", 48, *AUGMENTED[:-2]])
    losses = validation_losses(tiny_model("MaskFormer"), losses_of, build_loss_loader(cfg, name))
    assert losses["total_loss"] > 0
    assert len(DatasetCatalog.get(name)) == 3


def test_a_head_that_chooses_by_itself(tmp_path: Path) -> None:
    name = write_semantic(tmp_path)
    register_in_place([name])
    opts = [
        *("DATASETS.TRAIN", (name,), "DATALOADER.NUM_WORKERS", 0, "INPUT.MIN_SIZE_TEST", 48),
        *("MODEL.META_ARCHITECTURE", "SemanticSegmentor", "SOLVER.IMS_PER_BATCH", 2),
        *("MODEL.SEM_SEG_HEAD.NAME", "PerPixelBaselineHead", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3),
    ]
    model = tiny_model("MaskFormer", 3, opts)
    cfg = tiny_cfg("MaskFormer", 0, opts)
    losses = validation_losses(model, losses_of, build_loss_loader(cfg, name))
    assert set(losses) == {"total_loss", "loss_sem_seg"}


def test_what_can_not_be(tmp_path: Path) -> None:
    cfg = cfg_of(tmp_path, "TEST.EVAL_LOSS", True, "TEST.TILE.SIZE", 512)
    with pytest.raises(ConfigError, match=r"EVAL_LOSS is True with TEST.TILE.SIZE 512"):
        check_config(cfg)
    cfg.TEST.TILE.SIZE, cfg.DATASETS.TEST = 0, ()
    with pytest.raises(ConfigError, match=r"EVAL_LOSS is True, but DATASETS.TEST is empty"):
        check_config(cfg)
    name = write_semantic(tmp_path / "labels")
    register_in_place([name])
    with pytest.raises(ConfigError, match=r"EVAL_LOSS is True, but dataset .* has no images with"):
        build_loss_loader(cfg, name)


def test_own_dicts_without_labels(tmp_path: Path) -> None:
    cfg = cfg_of(tmp_path, "TEST.EVAL_LOSS", True)
    name = f"unlabelled/{tmp_path.name}"
    DatasetCatalog.register(name, lambda: [{"file_name": "0.png", "height": 9, "width": 9}])
    with pytest.raises(ConfigError, match=r"EVAL_LOSS is True, but dataset .* has no images with"):
        build_loss_loader(cfg, name)
