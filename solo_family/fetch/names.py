"""The names of models: `zoo:CONFIG`, `hf:OWNER/REPO[/FILE][@REVISION]`, or a path."""

import logging
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlparse

from ..errors import ConfigError, DataError
from ..own_configs import PREFIX as OWN
from ..own_configs import config_path
from .cache import cache_folder
from .configs import get_config_file
from .download import download
from .hub import fetch_from_hub
from .hub_file import PREFIX as HUB
from .hub_file import HubFile, hub_file, parse_hub
from .hub_request import MissingFile
from .table import Entry, find

logger = logging.getLogger(__name__)

ZOO = "zoo:"
# The files of a model on the Hub: what `publish` writes, or else a run's folder as it is.
CONFIG = "config.yaml"
WEIGHTS = ("model.safetensors", "model_final.pth")
_CONFIG_SUFFIXES = (".yaml", ".yml")
_WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pkl", ".pyth", ".pt", ".bin")


class NamedConfig(NamedTuple):
    """The config that a name stands for.

    Attributes:
        path: of the yaml file.
        weights: the name of the weights that belong to it; "" if the config itself says.
        folder: on the Hub, where relative paths of weights start; None for others.
    """

    path: Path
    weights: str = ""
    folder: HubFile | None = None


def is_name(text: str) -> bool:
    """Return whether a text names a model of the zoo or of the Hub, and is no path."""
    return text.startswith((ZOO, HUB))


def check_name(text: str) -> None:
    """Check the form of a name, or that the zoo has it; nothing is downloaded.

    Raises:
        ConfigError: it is wrong.
    """
    if text.startswith(ZOO):
        find(text.removeprefix(ZOO))
    elif text.startswith(HUB):
        parse_hub(text)


def named_config(text: str) -> NamedConfig:
    """Return the config that a name stands for, downloading it if it is on the Hub.

    Raises:
        ConfigError: there is no such name, or it is of another file.
        DataError: it can't be downloaded.
    """
    if text.startswith(ZOO):
        name = text.removeprefix(ZOO)
        find(name)
        return NamedConfig(Path(get_config_file(name)), text)
    if not text.startswith(HUB):
        return NamedConfig(Path(config_path(text) if text.startswith(OWN) else text))
    file = parse_hub(text)
    path = PurePosixPath(file.name)
    if not path.suffix:  # a folder, or the repository itself
        path /= CONFIG
    if path.suffix not in _CONFIG_SUFFIXES:
        raise ConfigError(
            f"{text} is no config. Write hf:OWNER/REPO for the model that a repository has, or "
            "hf:OWNER/REPO/FILE.yaml; weights alone are named in MODEL.WEIGHTS."
        )
    try:
        found = fetch_from_hub(file._replace(name=str(path)))
    except MissingFile as error:
        raise DataError(
            f"{error} A model of this package has one: `python -m solo_family publish` writes it."
        ) from error
    # The commit, so that the weights are those of this config though the branch moves on.
    inside = "" if len(path.parts) == 1 else str(path.parent)
    return NamedConfig(found.path, folder=HubFile(file.repository, inside, found.commit))


def weights_file(text: str | Path) -> Path:
    """Return the file of weights that a name stands for, downloading it unless a cache has it.

    Args:
        text: a name; or a path, which is returned.

    Returns:
        The path. A file of the zoo has the names of the code that it is from.

    Raises:
        ConfigError: there is no such name.
        DataError: there are no such weights, or they can't be downloaded.
    """
    text = str(text)
    if text.startswith(ZOO):
        return _published(find(text.removeprefix(ZOO)))
    if not text.startswith(HUB):
        return Path(text)
    file = parse_hub(text)
    if PurePosixPath(file.name).suffix in _WEIGHTS_SUFFIXES:
        return fetch_from_hub(file).path
    missing = None
    for name in WEIGHTS:
        try:
            return fetch_from_hub(file._replace(name=f"{file.name}/{name}".lstrip("/"))).path
        except MissingFile as error:
            missing = error
    raise DataError(
        f"{text} has neither {' nor '.join(WEIGHTS)}. Name its file: hf:OWNER/REPO/FILE."
    ) from missing


def _published(entry: Entry) -> Path:
    """Return the file of published weights, downloading it unless a cache has it."""
    if not entry.weights:
        note = f"{entry.note[:1].upper()}{entry.note[1:]}. " if entry.note else ""
        raise DataError(
            f"{ZOO}{entry.config} has no published weights that can be downloaded. {note}"
            "Give other weights in MODEL.WEIGHTS, or '' for random ones (in Python: trained=False)."
        )
    logger.info(f"The weights of {entry.config} have the licence: {entry.licence or 'unknown'}")
    file = hub_file(entry.weights)
    if file is not None:
        return fetch_from_hub(file, entry.checksum).path
    folder = cache_folder() / PurePosixPath(entry.config).with_suffix("")
    name = PurePosixPath(urlparse(entry.weights).path).name
    return download(entry.weights, folder / name, entry.checksum)
