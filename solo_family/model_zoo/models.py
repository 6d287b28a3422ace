"""A model of the zoo, with random or with published weights."""

from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

from detectron2.modeling import build_model
from torch import Tensor, nn

from ..checkpoint.convert import convert
from ..config import setup_cfg
from ..errors import DataError
from .configs import get_config_file
from .download import cache_folder, download
from .hub import download_from_hub, hub_file
from .table import Entry, find


def get(name: str, pretrained: bool = True) -> nn.Module:
    """Builds the model of a config.

    Published weights are downloaded once, to `$SOLO_FAMILY_CACHE` or the user's cache folder; those
    of the HuggingFace Hub to its own cache, where that variable is not set.

    Args:
        name: one of `list()`.
        pretrained: with the published weights, instead of random ones.

    Returns:
        The model in inference mode; on the GPU if there is one. It is called as detectron2's: with
        a list of dicts, and images in the colour order of the config's `INPUT.FORMAT`.

    Raises:
        ConfigError: there is no such config.
        DataError: no weights are published, or they can't be fetched or converted.
    """
    entry = find(name)
    path = get_config_file(name)
    if not pretrained:
        cfg = setup_cfg(path, _WITHOUT_WEIGHTS)
        return build_model(cfg).eval()
    if not entry.weights:
        raise DataError(
            f"{name} has no published weights that can be downloaded. "
            f"{entry.note[:1].upper()}{entry.note[1:]}{'. ' if entry.note else ''}"
            "pretrained=False builds it with random weights."
        )
    converted = convert(_fetch(entry))
    # What the weights imply comes before the config, whose other keys stay.
    words = [word for pair in converted.keys.items() for word in pair]
    cfg = setup_cfg(path, [*words, *_WITHOUT_WEIGHTS])
    model = build_model(cfg).eval()
    _load(model, converted.weights, entry)
    return model


_WITHOUT_WEIGHTS = ("MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", "", "MODEL.VGG.WEIGHTS", "")


def _load(model: nn.Module, weights: dict[str, Tensor], entry: Entry) -> None:
    names = dict(model.named_parameters()).keys()
    try:
        missing = names & {*model.load_state_dict(weights, strict=False).missing_keys}
    except RuntimeError as error:  # shapes
        raise DataError(f"{entry.weights} is not of {entry.config}: {error}") from error
    if missing:
        raise DataError(f"{entry.weights} is not of {entry.config}: it lacks {min(missing)}.")


def _fetch(entry: Entry) -> Path:
    """Returns the file of published weights, which is downloaded unless it is in a cache."""
    file = hub_file(entry.weights)
    # Of files with a checksum of their authors' we compare it.
    if file is not None and not entry.checksum:
        return download_from_hub(file)
    return download(entry.weights, _place(entry), entry.checksum)


def _place(entry: Entry) -> Path:
    """A file of the cache: as the address ends, in a folder of the config's name."""
    folder = cache_folder() / PurePosixPath(entry.config).with_suffix("")
    return folder / PurePosixPath(urlparse(entry.weights).path).name
