"""What several tests need: real data where it is, tiny models, a small shapes dataset."""

import logging
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import defaults
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils import video_visualizer, visualizer

from solo_family import METHODS
from solo_family.config import get_cfg
from solo_family.modeling.base import MaskSegmentor

ROOT = Path(__file__).resolve().parent.parent


def _try_get_key(cfg: CfgNode, *keys: str, default: Any = None) -> Any:
    """What detectron2's function of this name returns, which writes and reads all of `cfg` for it.

    A run begins with three such calls; they take half a second.
    """
    for key in keys:
        node: Any = cfg
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if node is not None:
            return node
    return default


defaults._try_get_key = _try_get_key


def _of_every_method(name: str) -> dict:
    """Joins what `tests/methods/*/tiny.py` say under a name, each by method."""
    files = sorted((ROOT / "tests" / "methods").glob("*/tiny.py"))
    modules = [import_module(f"{__package__}.methods.{file.parent.name}.tiny") for file in files]
    return {method: value for module in modules for method, value in getattr(module, name).items()}


# Keys that make each method small enough for a test: a ResNet-50 of width 16.
TINY = _of_every_method("TINY")
# What makes an untrained tiny model find objects, by the ends of parameters' names: a standard
# deviation for random weights, or the value of a bias where something and nothing is to be found.
EAGER_STD = _of_every_method("EAGER_STD")
EAGER_BIAS = _of_every_method("EAGER_BIAS")


def of_all_or_slow(*fast: str) -> list[Any]:
    """Returns all methods as parameters of a test; all but these are slow."""
    slow = pytest.mark.slow
    return [name if name in fast else pytest.param(name, marks=slow) for name in sorted(METHODS)]


def tiny_cfg(method: str = "SOLOv2", num_classes: int = 3, opts: list | None = None) -> CfgNode:
    """Returns the configuration of a tiny model of a method."""
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            *("MODEL.META_ARCHITECTURE", method, "MODEL.DEVICE", "cpu", "INPUT.FORMAT", "RGB"),
            *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.BACKBONE.FREEZE_AT", 0),
            *("MODEL.RESNETS.NORM", "BN", "MODEL.RESNETS.WIDTH_PER_GROUP", 4),
            *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
            *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
            *("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"]),
            *("MODEL.FPN.OUT_CHANNELS", 16, "MODEL.PIXEL_STD", [58.0, 57.0, 57.0]),
            *("DATASETS.TRAIN", (), "DATASETS.TEST", ()),
            # Its pictures take longer than a short training.
            *("OUTPUT.REPORT", False),
            *TINY[method],
            *(METHODS[method].num_classes_key, num_classes),
            *(opts or []),
        ]
    )
    return cfg


def tiny_model(
    method: str = "SOLOv2", num_classes: int = 3, opts: list | None = None
) -> MaskSegmentor:
    torch.manual_seed(0)
    return build_model(tiny_cfg(method, num_classes, opts))


def eager_to_find(model: MaskSegmentor, found: bool = True) -> MaskSegmentor:
    """Moves an untrained model's scores above or below its thresholds, and fixes its statistics."""
    method = type(model).__name__
    model.train()
    with torch.no_grad():
        # One step of batch-norm statistics, with objects of a class that every model has.
        model([picture(seed=5, num_classes=1), picture(seed=6, num_classes=1)])
        for name, parameter in model.named_parameters():
            for end, (yes, no) in EAGER_BIAS[method].items():
                if name.endswith(end):
                    parameter.fill_(yes if found else no)
            for end, std in EAGER_STD[method].items():
                if name.endswith(end):
                    parameter.normal_(std=std, generator=torch.Generator().manual_seed(0))
    return model.eval()


def picture(
    height: int = 64, width: int = 96, objects: int = 2, num_classes: int = 3, seed: int = 0
) -> dict:
    """Returns a training input: noise with bright rectangles, their masks, boxes and classes."""
    generator = torch.Generator().manual_seed(seed)

    def number(high: int) -> int:
        return int(torch.randint(high, (1,), generator=generator))

    image = torch.randint(0, 80, (3, height, width), generator=generator, dtype=torch.uint8)
    masks = torch.zeros((objects, height, width), dtype=torch.bool)
    boxes = torch.zeros((objects, 4))
    for index in range(objects):
        h, w = 8 + number(height // 2 - 8), 8 + number(width // 2 - 8)
        top, left = number(height - h), number(width - w)
        masks[index, top : top + h, left : left + w] = True
        boxes[index] = torch.tensor([left, top, left + w, top + h])
        image[:, top : top + h, left : left + w] += 100 + 10 * index
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.arange(objects) % num_classes
    instances.gt_masks = BitMasks(masks)
    return {"image": image, "instances": instances, "height": height, "width": width}


def assert_learns(model: torch.nn.Module, batch: list[dict], steps: int = 25) -> None:
    """A few steps on the same pictures lower the loss by a fifth."""
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    history = []
    for _ in range(steps):
        loss = sum(model(batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.8 * history[0]


def assert_finite_gradients(model: torch.nn.Module, losses: dict[str, torch.Tensor]) -> None:
    """The losses are finite, and every parameter gets a finite gradient of their sum."""
    assert all(loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """A run in this process sets the loggers up: handlers of its folder, no propagation."""
    loggers = [logging.getLogger(name) for name in ("solo_family", "detectron2", "fvcore")]
    before = [(logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def drawn_in_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws in red: detectron2 picks colours at random, and white and greys are among them."""
    for module in (visualizer, video_visualizer):
        monkeypatch.setattr(module, "random_color", lambda **_: np.array([1.0, 0.0, 0.0]))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data; tests that need it are skipped where it is absent."""
    default = ROOT.parent / "shared" / "data"
    root = Path(os.environ.get("SOLO_FAMILY_TEST_DATA", default))
    if not root.is_dir():
        pytest.skip(f"no real data: set SOLO_FAMILY_TEST_DATA (looked in {root})")
    return root


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small shapes dataset."""
    from solo_family.data.formats.synthetic import make_shapes

    root = tmp_path_factory.mktemp("shapes") / "shapes"
    return make_shapes(root, num_train=16, num_val=8, image_size=(96, 128))
