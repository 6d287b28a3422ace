"""Open a model from a run's folder, a config, an exported folder, the zoo or the Hub."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata
from detectron2.engine import DefaultPredictor

from ..config import check_config, setup_cfg
from ..config.output import DEFAULT_CONFIDENCE, confidence_threshold
from ..data.loading.augmentation import resized_input
from ..data.loading.images import Reading
from ..engine.run_weights import weights_of_run
from ..errors import ConfigError, DataError
from ..export.folder import DESCRIPTION
from ..faults import explained
from ..fetch.names import is_name
from ..model_zoo.models import setup_named
from ..modeling.base import MaskSegmentor
from ..tiling.tiles import Tiling
from .exported import (
    as_detectron2,
    exported_metadata,
    exported_reading,
    exported_threshold,
    open_exported,
)
from .load import class_metadata, load_predictor
from .parallel import on_one_core_each, one_thread_in_a_fork
from .predictions import Predictions

_GPU_BATCH, _CPU_BATCH = 4, 8
# The file that marks a folder as a run, as `DESCRIPTION` marks one as an exported model.
_RUN = "config.yaml"


@dataclass(frozen=True)
class Source:
    """A model that is ready to use.

    Attributes:
        predict: maps pictures, uint8 [H, W, C] of `reading.format`, to a list of detectron2's
            dicts.
        metadata: names and colours of the classes.
        reading: how picture files are read.
        tiling: the tiles of the configuration; None where there is no configuration.
        batch: how many pictures are best predicted at once.
        threshold: the lowest score to show, unless another is asked for.
        written: when the files of the model were written, in seconds; 0 where it is unknown.
    """

    predict: Callable[[list[np.ndarray]], list[Predictions]]
    metadata: Metadata
    reading: Reading
    tiling: Tiling | None = None
    batch: int = 1
    threshold: float = DEFAULT_CONFIDENCE
    written: float = 0.0


def open_source(
    source: str | Path | CfgNode,
    weights: str | Path | None,
    keys: Sequence[Any],
    engine: str | None = None,
) -> Source:
    """Open a run's folder, an exported folder, a config file, a name or a configuration.

    Args:
        source: see `Predictor`.
        weights: replaces the source's.
        keys: `KEY VALUE ...` that override the configuration.
        engine: runs an exported model; see `ExportedModel`.

    Raises:
        ConfigError: a key or its value can't work, or an exported model is to be changed.
        DataError: a file is missing, or the weights don't fit the model.
    """
    if not isinstance(source, CfgNode | str | PathLike):
        raise ConfigError(
            f"A {type(source).__name__} is no source of a model. Give the OUTPUT_DIR of a training "
            "run, a folder that `publish` or `export` wrote, a config file, a configuration with "
            "MODEL.WEIGHTS, or a name: zoo:CONFIG or hf:OWNER/REPO. To call a model itself, call "
            "model.eval(), and give it detectron2's dicts."
        )
    exported = not isinstance(source, CfgNode) and is_exported(Path(source))
    if engine is not None and not exported:
        raise ConfigError(
            f"engine is {engine!r}, but only exported models run on an engine. Leave it out, or "
            "name a folder that `export` wrote."
        )
    if isinstance(source, CfgNode):
        cfg = source.clone()
        cfg.defrost()
        cfg.merge_from_list(list(keys))
        if weights is not None:
            cfg.MODEL.WEIGHTS = str(weights)
        check_config(cfg)
        return from_config(cfg)
    if is_name(str(source)):
        return from_name(str(source), True, _with_weights(keys, weights))
    path = Path(source)
    if exported:
        if weights is not None or keys:
            raise ConfigError(
                f"{path} is an exported model, whose weights, device and precision are fixed: "
                "remove these arguments, or name the run that it was exported from."
            )
        return from_exported(path, engine)
    if path.is_dir():
        weights = weights or weights_of_run(path)
        path = path / _RUN
    if not path.is_file():
        raise DataError(
            f"{source}: there is no such file, or no {_RUN} or {DESCRIPTION} in it. Give the "
            "OUTPUT_DIR of a training run, a folder that `publish` or `export` wrote, a config "
            "file, or a name: zoo:CONFIG or hf:OWNER/REPO."
        )
    return from_config(setup_cfg(str(path), _with_weights(keys, weights)))


def is_exported(folder: Path) -> bool:
    """Return whether a path is the folder of an exported model."""
    return (folder / DESCRIPTION).is_file()


def run_config(folder: Path, keys: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return the config file of a run's folder, and `keys` with its weights if they name none.

    Raises:
        ConfigError: it is the folder of an exported model.
        DataError: the run has no config, or no intact weights.
    """
    if is_exported(folder):
        raise ConfigError(
            f"--config-file {folder} is an exported model, and a model with a config is needed. "
            "Name the run that it was exported from."
        )
    file = folder / _RUN
    if not file.is_file():
        raise DataError(
            f"{folder}: there is no {_RUN} or {DESCRIPTION} in it. Give the OUTPUT_DIR of a "
            "training run, a folder that `publish` or `export` wrote, a config file, or a name: "
            "zoo:CONFIG or hf:OWNER/REPO."
        )
    if "MODEL.WEIGHTS" in keys[::2]:
        return str(file), [*keys]
    return str(file), [*keys, "MODEL.WEIGHTS", str(weights_of_run(folder))]


def read_cfg(file: str, keys: Sequence[Any]) -> CfgNode:
    """Return the configuration of a run's folder, a config file or a name.

    Args:
        file: one of these.
        keys: `KEY VALUE ...` that override it.

    Raises:
        SoloFamilyError: see `run_config` and `setup_cfg`.
    """
    return setup_cfg(*run_config(Path(file), keys) if Path(file).is_dir() else (file, keys))


def _with_weights(keys: Sequence[Any], weights: str | Path | None) -> list[Any]:
    return [*keys] if weights is None else [*keys, "MODEL.WEIGHTS", str(weights)]


def from_config(cfg: CfgNode) -> Source:
    """Open the model of a configuration; see `load_predictor`."""
    one_thread_in_a_fork()
    return _source(cfg, load_predictor(cfg))


def from_name(name: str, trained: bool, keys: Sequence[Any]) -> Source:
    """Open a model of the zoo or the Hub; see `model_zoo.get`.

    Args:
        name: of the model.
        trained: use its trained weights instead of random ones.
        keys: `KEY VALUE ...` that override the configuration.
    """
    return from_config(setup_named(name, trained, keys))


def _source(cfg: CfgNode, predictor: DefaultPredictor) -> Source:
    @explained(cfg)
    @torch.no_grad()
    def predict(images: list[np.ndarray]) -> list[Predictions]:
        one_thread_in_a_fork()
        if is_on_cpu and isinstance(predictor.model, MaskSegmentor):
            return on_one_core_each(one, images)
        return predictor.model([_model_input(predictor, image) for image in images])

    def one(image: np.ndarray) -> Predictions:
        return predictor.model([_model_input(predictor, image)])[0]

    is_on_cpu = torch.device(cfg.MODEL.DEVICE).type == "cpu"
    # Two for each core, so that none waits long for the others at the end of a batch.
    cores = torch.get_num_threads()
    batch = min(2 * cores if cores > 1 else 1, _CPU_BATCH) if is_on_cpu else _GPU_BATCH
    reading, tiling = Reading.from_config(cfg), Tiling.from_config(cfg)
    threshold = confidence_threshold(cfg)
    return Source(predict, class_metadata(cfg), reading, tiling, batch, threshold)


def _model_input(predictor: DefaultPredictor, image: np.ndarray) -> dict[str, Any]:
    """Return a picture as the input of detectron2's models, prepared as by `DefaultPredictor`.

    Args:
        predictor: determines the size and the order of colours.
        image: uint8 [H, W, C] of the working format.
    """
    given = image[:, :, ::-1] if predictor.input_format == "RGB" else image
    return resized_input(given, predictor.aug)


def from_exported(folder: Path, engine: str | None = None, threads: int = 0) -> Source:
    """Open an exported model; see `open_exported`."""
    model = open_exported(folder, engine, threads)
    one = explained()(lambda image: as_detectron2(model(image), model))
    return Source(
        lambda images: [one(image) for image in images],
        exported_metadata(model.description),
        exported_reading(model.description),
        threshold=exported_threshold(model.description),
    )
