"""Build a model of the zoo, with random or with published weights."""

import logging
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor, nn

from ..checkpoint.convert import Converted, convert
from ..config import setup_cfg
from ..config.rules import get_key
from ..data.formats.classes import num_classes
from ..errors import DataError, SoloFamilyError
from ..registry import METHODS
from .configs import get_config_file
from .download import cache_folder, download
from .hub import download_from_hub, hub_file
from .table import Entry, find

logger = logging.getLogger(__name__)


def get(name: str, trained: bool = True, device: str | None = None) -> nn.Module:
    """Build the model of a config.

    Published weights are downloaded once, to `$SOLO_FAMILY_CACHE` or the user's cache folder. Those
    of the HuggingFace Hub go to its own cache unless that variable is set.

    Args:
        name: one of `list()`.
        trained: load the published weights instead of random ones.
        device: for instance "cpu"; None for a GPU if there is one.

    Returns:
        The model in inference mode. It is called like detectron2's models: with a list of dicts,
        and images in the colour order of the config's `INPUT.FORMAT`.

    Raises:
        ConfigError: there is no such config or device.
        DataError: no weights are published, or they can't be downloaded or converted.
    """
    converted = _published(name) if trained else None
    cfg = _config(name, converted, device)
    model = build_model(cfg).eval()
    if converted is not None:
        load_published(model, name, converted)
    return model


def get_config(name: str, trained: bool = False, device: str | None = None) -> CfgNode:
    """Return the configuration of a model, without weights.

    Args:
        name: one of `list()`.
        trained: the configuration of the published weights, which are downloaded to see their
            shapes.
        device: for instance "cpu"; None for a GPU if there is one.

    Returns:
        A configuration that builds without its dataset: where the class count depends on a dataset
        that is not on this machine, the model has 80 classes.

    Raises:
        ConfigError, DataError: see `get`.
    """
    return _config(name, _published(name) if trained else None, device)


def get_trained(name: str, device: str | None = None) -> tuple[CfgNode, Converted]:
    """Return the configuration of a model, and its published weights; see `get`."""
    converted = _published(name)
    return _config(name, converted, device), converted


def load_published(model: nn.Module, name: str, converted: Converted) -> None:
    """Load the weights that `get_trained` returned.

    Raises:
        DataError: the weights don't fit the model.
    """
    _load(model, converted.weights, find(name))


def _published(name: str) -> Converted:
    entry = find(name)
    if not entry.weights:
        raise DataError(
            f"{name} has no published weights that can be downloaded. "
            f"{entry.note[:1].upper()}{entry.note[1:]}{'. ' if entry.note else ''}"
            "trained=False builds it with random weights."
        )
    return convert(_fetch(entry))


def _config(name: str, converted: Converted | None, device: str | None) -> CfgNode:
    find(name)
    # The keys that the weights imply override the config's; its other keys stay.
    implied = {} if converted is None else converted.keys
    words = [word for pair in implied.items() for word in pair]
    place = [] if device is None else ["MODEL.DEVICE", device]
    cfg = setup_cfg(get_config_file(name), [*words, *_WITHOUT_WEIGHTS, *place])
    method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
    if method is not None:
        try:
            num_classes(cfg, method.num_classes_key)
        except SoloFamilyError:
            count = get_key(cfg, method.num_classes_key) or _NUM_CLASSES
            cfg.merge_from_list([method.num_classes_key, count])
            cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    return cfg


_WITHOUT_WEIGHTS = ("MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", "", "MODEL.VGG.WEIGHTS", "")
_NUM_CLASSES = 80  # COCO's


def _load(model: nn.Module, weights: dict[str, Tensor], entry: Entry) -> None:
    names = dict(model.named_parameters()).keys()
    try:
        missing = names & {*model.load_state_dict(weights, strict=False).missing_keys}
    except RuntimeError as error:  # shapes
        raise DataError(f"{entry.weights} does not fit {entry.config}: {error}") from error
    if missing:
        raise DataError(f"{entry.weights} does not fit {entry.config}: it lacks {min(missing)}.")


def _fetch(entry: Entry) -> Path:
    """Return the file of published weights, downloading it unless a cache holds it."""
    logger.info(f"The weights of {entry.config} have the licence: {entry.licence or 'unknown'}")
    file = hub_file(entry.weights)
    # We compare the checksum where the authors publish one.
    if file is not None and not entry.checksum:
        return download_from_hub(file)
    return download(entry.weights, _place(entry), entry.checksum)


def _place(entry: Entry) -> Path:
    """Return the path of the file in the cache, in a folder named after the config."""
    folder = cache_folder() / PurePosixPath(entry.config).with_suffix("")
    return folder / PurePosixPath(urlparse(entry.weights).path).name
