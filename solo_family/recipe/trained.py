"""Start a recipe from the weights of a trained model; classes keep their weights by name."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor

from .. import model_zoo
from ..checkpoint.origin import KEY, Origin, origin_of, origin_of_weights
from ..checkpoint.published import read_published
from ..config import setup_cfg
from ..data.formats.classes import class_names
from ..data.formats.dataset_classes import without_blanks
from ..engine.run_weights import weights_of_run
from ..errors import DataError, SoloFamilyError, first_of
from ..fetch.names import HUB, ZOO, is_name, named_config, weights_file
from ..fetch.table import find
from ..files import replacing
from ..model_zoo.models import setup_named
from ..registry import METHODS, method_name
from ..weight_files import read_weights
from .bases import Base
from .choice import Choice
from .forgotten import forgotten_choices
from .matched import WITHOUT_WEIGHTS, matched, query_choices
from .other_task import task_choices
from .published import COCO, advise, choose_coco

logger = logging.getLogger(__name__)

_CONFIG = "config.yaml"
_LISTED = 8


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        config: the path of its config.
        cfg: its configuration, with its number of classes.
        names: of its classes, in the order of its outputs; empty if they are not known.
        weights: by our names.
        implied: keys that follow from the weights, and not from the config.
        origin: where the weights are from, and their licence.
        advice: on weights with another licence; "" for none.
    """

    config: Path
    cfg: CfgNode
    names: list[str]
    weights: dict[str, Tensor]
    implied: dict[str, Any]
    origin: Origin
    advice: str = ""

    @property
    def method(self) -> str:
        """The name of the method that the model is, or is a subclass of."""
        return method_name(self.cfg.MODEL.META_ARCHITECTURE)


def find_trained(where: str, method: str) -> Trained:
    """Return the model of a name, the folder of a run, or a checkpoint file in one.

    Args:
        where: that, or "coco" for COCO weights of a method; see `choose_coco`.
        method: for "coco", the name in `MODEL.META_ARCHITECTURE`.

    Raises:
        DataError: there is no such model, or it has no weights, or they can't be read.
        ConfigError: its config can't be used.
    """
    if where == COCO:
        where = choose_coco(method).config
    if where.startswith(ZOO) or where in model_zoo.list():
        return _of_zoo(where.removeprefix(ZOO))
    if is_name(where):
        return _of_hub(where)
    path = Path(where)
    config = (path if path.is_dir() else path.parent) / _CONFIG
    if not path.exists():
        raise DataError(
            f"--from {where}: it is no name of the model zoo (docs/model_zoo.md), no folder of a "
            f"run, no file, no {HUB}OWNER/REPO, and not {COCO}. Correct it."
        )
    if not config.is_file():
        raise DataError(
            f"--from {where}: there is no {config}, which says what model the weights are of. Put "
            "the config.yaml of the run beside them; `convert` writes one for other code's weights."
        )
    weights = weights_of_run(path) if path.is_dir() else path
    return _of_config(config, where, weights, _origin_of_run(config, weights))


def _origin_of_run(config: Path, weights: Path) -> Origin:
    """Return the weights of a run, with the licence of those that it began with."""
    begun = origin_of(setup_cfg(str(config), ["MODEL.DEVICE", "cpu"]))
    return Origin(f"weights of {weights.name}", "" if begun is None else begun.licence)


def _of_hub(name: str) -> Trained:
    cfg = setup_cfg(name, ["MODEL.DEVICE", "cpu"])
    origin = origin_of_weights(cfg.MODEL.WEIGHTS)
    return _of_config(named_config(name).path, name, cfg.MODEL.WEIGHTS, origin)


def _of_config(config: Path, where: str, weights: str | Path, origin: Origin) -> Trained:
    """Return the model of a config that training wrote, with weights of our names."""
    cfg = setup_cfg(str(config), WITHOUT_WEIGHTS)
    _check_method(cfg, where)
    names = without_blanks(cfg.MODEL.CLASS_NAMES) or _names(cfg)
    return Trained(config, cfg, names, read_weights(weights), {}, origin)


def _of_zoo(name: str) -> Trained:
    entry = find(name)
    if not entry.weights:
        raise DataError(
            f"--from {name}: no weights that can be downloaded are published for it. "
            "docs/model_zoo.md lists the configs that have some; or leave --from out."
        )
    cfg = setup_named(name, True, ["MODEL.DEVICE", "cpu"])
    converted = read_published(weights_file(cfg.MODEL.WEIGHTS))
    _check_method(cfg, name)
    config = Path(model_zoo.get_config_file(name))
    origin = Origin(f"published weights of {name}", entry.licence)
    names = _names(setup_cfg(str(config), WITHOUT_WEIGHTS))
    keys = dict(converted.keys)
    return Trained(config, cfg, names, converted.weights, keys, origin, advise(entry))


def _check_method(cfg: CfgNode, where: str) -> None:
    if cfg.MODEL.META_ARCHITECTURE not in METHODS:
        raise DataError(
            f"--from {where}: its MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}, which "
            f"is none of {', '.join(METHODS)}. Start from a model of these."
        )


def _names(cfg: CfgNode) -> list[str]:
    try:
        return list(class_names(cfg))
    except SoloFamilyError:  # the dataset is not here
        return []


def trained_base(trained: Trained, names: list[str], path: Path, task: str = "instance") -> Base:
    """Write the weights that training begins with, and return the base of the recipe.

    Args:
        trained: the model to begin with.
        names: of the classes to learn, in the order of the model's outputs.
        path: where to write the weights.
        task: of the labels: "instance", "semantic" or "panoptic".

    Raises:
        OSError: they can't be written.
    """
    of_task = task_choices(trained.cfg, task)
    cfg = trained.cfg.clone()
    cfg.merge_from_list([word for choice in of_task for word in (choice.key, choice.value)])
    weights, left = matched(cfg, trained.weights, trained.names, names)
    with replacing(path) as temporary:
        torch.save({"model": weights, KEY: trained.origin.as_dict()}, temporary)
    kept = [name for name in names if name in trained.names]
    notes = [
        str(trained.origin),
        *([trained.advice] if trained.advice else []),
        f"classes that keep their weights: {first_of(kept, _LISTED) or 'none'}",
        f"classes of the source that are left out: "
        f"{first_of([name for name in trained.names if name not in names], _LISTED) or 'none'}",
    ]
    if left:
        notes.append(f"weights that were not taken: {first_of(left, _LISTED)}")
    choices = [
        *(Choice(key, value, "as the weights have it") for key, value in trained.implied.items()),
        Choice("MODEL.WEIGHTS", str(path), trained.origin.weights),
        Choice("MODEL.CLASS_NAMES", [], "from the dataset"),
        Choice("MODEL.CLASS_IDS", [], "from the dataset"),
        Choice("MODEL.BACKBONE.NORM_EVAL", True, "too few images for statistics of their own"),
        *query_choices(cfg, len(names)),
        *forgotten_choices(trained.cfg),
        *of_task,
    ]
    return Base(trained.config, tuple(choices), is_trained=True, notes=tuple(notes))
