"""Read a run, and write its model as a config and weights that stand alone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from safetensors.torch import save_file

from ..checkpoint.load import load_weights
from ..checkpoint.origin import KEY, Origin, origin_of
from ..config import setup_cfg
from ..data.formats.classes import class_ids, class_names, stuff_ids
from ..engine.run_weights import weights_of_run
from ..errors import DataError
from ..evaluation.build import predicted_tasks
from ..export.folder import DESCRIPTION
from ..fetch.names import CONFIG, WEIGHTS
from ..registry import METHODS
from .card import Card
from .portable import as_yaml, portable
from .scores import count_images, read_scores, shown_dataset

_AVERAGED = "_ema"


@dataclass(frozen=True)
class Run:
    """A training run, or another folder of a config and weights.

    Attributes:
        folder: its path.
        cfg: its configuration.
        weights: the checkpoint that is published.
        model: with these weights, on the CPU.
    """

    folder: Path
    cfg: CfgNode
    weights: Path
    model: torch.nn.Module


def open_run(folder: Path, weights: Path | None = None) -> Run:
    """Read a run.

    Args:
        folder: its `OUTPUT_DIR`.
        weights: a checkpoint; by default the one that training ended with.

    Raises:
        DataError: the folder is no run, has no checkpoint, or one that does not fit its config.
        ConfigError: the model is of another package.
    """
    config = folder / CONFIG
    if not config.is_file():
        hint = " It is an exported model: name the run it is of." * (folder / DESCRIPTION).is_file()
        raise DataError(
            f"{folder} is no training run: there is no {CONFIG} in it.{hint} Name the OUTPUT_DIR "
            "of a run."
        )
    if weights is not None and not weights.is_file():
        raise DataError(f"--weights {weights}: there is no such file. Correct the path.")
    path = weights or weights_of_run(folder)
    cfg = setup_cfg(str(config), ["MODEL.DEVICE", "cpu"])
    if cfg.MODEL.META_ARCHITECTURE not in METHODS:
        raise DataError(
            f"{folder}: MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}, and others could "
            f"load only {', '.join(METHODS)}. Publish a model of these."
        )
    bare = cfg.clone()
    without = ("MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", "", "MODEL.VGG.WEIGHTS", "")
    bare.merge_from_list(without)
    model = build_model(bare).eval()
    load_weights(DetectionCheckpointer(model), str(path), complete=True)
    return Run(folder, cfg, path, model)


def write_model(run: Run, folder: Path, licence: str) -> None:
    """Write the config and the weights.

    Args:
        run: the run.
        folder: an existing folder.
        licence: that its maker gives it; "" for none.
    """
    text = as_yaml(portable(run.cfg))
    (folder / CONFIG).write_text(text, encoding="utf-8")
    # Tensors that share memory are written once each.
    weights = {name: value.clone().contiguous() for name, value in run.model.state_dict().items()}
    origin = Origin(folder.name, _licence(licence, run.cfg))
    path = folder / WEIGHTS[0]
    save_file(weights, path, {"format": "pt", KEY: json.dumps(origin.as_dict())})
    # safetensors lets nobody else read its files; this one is to be shared.
    path.chmod((folder / CONFIG).stat().st_mode)


def make_card(run: Run, name: str, licence: str, repository: str) -> Card:
    """Return what the model card tells, but for the picture.

    Args:
        run: the run.
        name: of the model.
        licence: that its maker gives it; "" for none.
        repository: OWNER/REPO on the Hub; "" if it is not known.
    """
    cfg = run.cfg
    method = METHODS[cfg.MODEL.META_ARCHITECTURE]
    names = class_names(cfg)
    averaged = run.weights.stem.endswith(_AVERAGED)
    raw = run.weights.with_stem(run.weights.stem.removesuffix(_AVERAGED))
    iteration = _iteration(raw)
    train = tuple(cfg.DATASETS.TRAIN)
    return Card(
        name=name,
        method=method,
        backbone=_backbone(cfg),
        tasks=tuple(predicted_tasks(cfg)),
        parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        classes=tuple(names),
        ids=tuple(class_ids(cfg)),
        stuff=tuple(stuff_ids(cfg, len(names))),
        licence=licence,
        origin=origin_of(cfg),
        scores=read_scores(run.folder, cfg, iteration, averaged),
        train=tuple(map(shown_dataset, train)),
        train_images=count_images(train) if train else None,
        training=_training(cfg, iteration),
        repository=repository,
    )


def _licence(licence: str, cfg: CfgNode) -> str:
    """Return the licence of the weights for those who train on from them."""
    origin = origin_of(cfg)
    if origin is None or not origin.is_non_commercial:
        return licence
    return f"{licence or 'not named'}, and of the weights it began with: {origin.licence}"


def _iteration(path: Path) -> int | None:
    """Return the last iteration of a checkpoint; None if it does not say."""
    if path.suffix != ".pth" or not path.is_file():
        return None
    content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return content.get("iteration") if isinstance(content, dict) else None


def _backbone(cfg: CfgNode) -> str:
    name = str(cfg.MODEL.BACKBONE.NAME)
    if "timm" in name:
        return str(cfg.MODEL.TIMM.NAME)
    if "resnet" in name:
        return f"ResNet-{cfg.MODEL.RESNETS.DEPTH}"
    return name.removeprefix("build_").removesuffix("_backbone")


def _training(cfg: CfgNode, iteration: int | None) -> tuple[str, ...]:
    solver = cfg.SOLVER
    if iteration is None:
        return ()
    sizes = sorted({*_numbers(cfg.INPUT.MIN_SIZE_TRAIN)})
    short = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
    return (
        f"{iteration + 1:,} iterations of {solver.IMS_PER_BATCH} images, learning rate "
        f"{solver.BASE_LR:g}.",
        f"Short edges of {short} pixels in training, {cfg.INPUT.MIN_SIZE_TEST} in tests.",
    )


def _numbers(sizes: Any) -> list[int]:
    return [sizes] if isinstance(sizes, int) else list(sizes)
