"""Build a model of the zoo or of the HuggingFace Hub, with random or with its trained weights."""

from collections.abc import Sequence
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from ..checkpoint.load import load_weights
from ..checkpoint.published import with_implied_keys
from ..config import setup_cfg
from ..config.rules import get_key
from ..data.formats.classes import num_classes
from ..errors import SoloFamilyError
from ..fetch.names import ZOO, is_name
from ..registry import METHODS

_WITHOUT_WEIGHTS = ("MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", "", "MODEL.VGG.WEIGHTS", "")
_NUM_CLASSES = 80  # COCO's


def get(name: str, trained: bool = True, device: str | None = None) -> nn.Module:
    """Build the model of a config.

    Trained weights are downloaded once, to `$SOLO_FAMILY_CACHE` or the user's cache folder.

    Args:
        name: one of `list()`, or "hf:OWNER/REPO[/FILE][@REVISION]".
        trained: load the published weights instead of random ones.
        device: for instance "cpu"; None for a GPU if there is one.

    Returns:
        The model in inference mode. It is called like detectron2's models: with a list of dicts,
        and images in the colour order of the config's `INPUT.FORMAT`.

    Raises:
        ConfigError: there is no such config or device.
        DataError: no weights are published, or they can't be downloaded or converted.
    """
    cfg = get_config(name, trained, device)
    model = build_model(cfg).eval()
    load_weights(DetectionCheckpointer(model), cfg.MODEL.WEIGHTS, complete=True)
    return model


def get_config(name: str, trained: bool = False, device: str | None = None) -> CfgNode:
    """Return the configuration of a model.

    Args:
        name: see `get`.
        trained: the configuration of the published weights, which `MODEL.WEIGHTS` names. They are
            downloaded, because some keys follow from their shapes.
        device: for instance "cpu"; None for a GPU if there is one.

    Returns:
        A configuration that builds without its dataset: where the class count depends on a dataset
        that is not on this machine, the model has 80 classes.

    Raises:
        ConfigError, DataError: see `get`.
    """
    return setup_named(name, trained, [] if device is None else ["MODEL.DEVICE", device])


def setup_named(name: str, trained: bool, opts: Sequence[Any]) -> CfgNode:
    """Return the configuration of a model; see `get_config`.

    Args:
        name: see `get`.
        trained: see `get_config`.
        opts: `KEY VALUE` pairs that override it.
    """
    without = () if trained else _WITHOUT_WEIGHTS
    cfg = setup_cfg(name if is_name(name) else f"{ZOO}{name}", [*without, *opts])
    cfg = with_implied_keys(cfg)
    method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
    if method is not None:
        try:
            num_classes(cfg, method.num_classes_key)
        except SoloFamilyError:
            count = get_key(cfg, method.num_classes_key) or _NUM_CLASSES
            cfg.merge_from_list([method.num_classes_key, count])
            cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    return cfg
