"""Read yaml files and KEY VALUE pairs into a configuration, and explain what is wrong with them."""

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import yaml
from detectron2.config import CfgNode

from ..errors import ConfigError, first_line
from ..own_configs import config_path
from .rules import META_ARCH, check_registered
from .written_lists import written_lists

_BASE = "_BASE_"

# How many other keys that do not exist a message names.
_NAMED = 5


def merge_file(cfg: CfgNode, path: str) -> None:
    """Merge a yaml file, and those that it inherits from, into `cfg`.

    Raises:
        ConfigError: a file is missing or not yaml, inherits from itself, or has an unknown key or a
            value of the wrong type.
    """
    with written_lists():
        values = [dotted_values(content) for content in read_chain(path)]
        unknown = [key for key in dict.fromkeys(chain(*values)) if not _is_known(cfg, key)]
        if unknown:
            # Of a method that is not known no key is.
            method = next((each[META_ARCH] for each in values if META_ARCH in each), None)
            check_registered(META_ARCH, method or cfg.MODEL.META_ARCHITECTURE, _methods())
            raise _no_key(cfg, unknown)
        _merge_checked(cfg, path)


def _methods() -> Any:
    from detectron2.modeling import META_ARCH_REGISTRY  # slow to import, and rarely needed

    return META_ARCH_REGISTRY


def _merge_checked(cfg: CfgNode, path: str) -> None:
    try:
        cfg.merge_from_file(path, allow_unsafe=False)
    except ValueError as error:  # raised by yacs for a value of the wrong type
        raise _wrong_type(path, error) from error


def merge_pairs(cfg: CfgNode, pairs: Sequence[str]) -> None:
    """Merge `KEY VALUE KEY VALUE ...` into `cfg`.

    Raises:
        ConfigError: an odd number of words, an unknown key, or a value of the wrong type.
    """
    if len(pairs) % 2:
        raise ConfigError(
            f"The overrides must be KEY VALUE pairs, but {len(pairs)} words were given: "
            f"{' '.join(map(str, pairs))}. Put quotes around values that have spaces."
        )
    for key, value in zip(pairs[::2], pairs[1::2]):
        if not _is_known(cfg, key):
            raise _no_key(cfg, [key])
        try:
            cfg.merge_from_list([key, value])
        except ValueError as error:
            raise _wrong_type(f"{key} {value}", error) from error


def read_chain(
    path: str,
    inheriting: tuple[str, ...] = (),
    load: Callable[[Any], Any] = yaml.safe_load,
) -> Iterator[dict[str, Any]]:
    """Yield the content of a file and of all files that it inherits from.

    Args:
        path: the path of the yaml file.
        inheriting: the files that inherit from it, directly or not.
        load: reads yaml from an open file without running code.

    Yields:
        The keys and values of each file, each file before those that it inherits from.

    Raises:
        ConfigError: a file is missing or not yaml, or inherits from itself.
    """
    real = os.path.realpath(path)
    if real in inheriting:
        raise ConfigError(
            f"{_BASE} forms a cycle: {' -> '.join([*inheriting, real])}. "
            "Remove _BASE_ from one of these files, or let it inherit from another file."
        )
    if not os.path.isfile(path):
        source = f"{_BASE} of {inheriting[-1]} names" if inheriting else "--config-file"
        if os.path.isdir(path):
            raise ConfigError(
                f"{source} {path}, which is a folder. Name the yaml file in it, for instance "
                f"{os.path.join(path, 'config.yaml')}."
            )
        raise ConfigError(f"{source} {path}: there is no such file. Correct the path.")
    content = _read(path, load)
    bases = content.pop(_BASE, [])
    yield content
    for base in bases if isinstance(bases, list) else [bases]:
        base = config_path(os.path.expanduser(str(base)))
        full = base if os.path.isabs(base) else os.path.join(os.path.dirname(path), base)
        yield from read_chain(full, (*inheriting, real), load)


def _read(path: str, load: Callable[[Any], Any]) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        try:
            content = load(file)
        except yaml.constructor.ConstructorError as error:
            raise ConfigError(
                f"{path} has {error.problem}: code in a config is not run. "
                "Write the value itself, for instance a list."
            ) from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is not yaml: {' '.join(str(error).split())}") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(
            f"{path} must have keys and values, but is a {type(content).__name__}. Write "
            "KEY: value pairs."
        )
    return content or {}


def dotted_values(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested dicts by their dotted keys."""
    values: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            values |= dotted_values(value, f"{name}.")
        else:
            values[name] = value
    return values


def _wrong_type(where: str, error: ValueError) -> ConfigError:
    return ConfigError(f"{where}: {first_line(error)}{_remedy(first_line(error))}")


# What yacs says of a value: the types of the default and of the value, the two, and the key.
_MISMATCH = re.compile(
    r"Type mismatch \(<class '(\w+)'> vs\. <class '(\w+)'>\) "
    r"with values \((.*) vs\. (.*)\) for config key: (\S+)"
)


def _remedy(message: str) -> str:
    """Return what to write instead of a value of the wrong type, after the message; or ""."""
    found = _MISMATCH.search(message)
    if found is None:
        return ""
    wanted, given, _, value, key = found.groups()
    if key == "INPUT.FORMAT":  # of all texts the one that people give a number
        return f". Write a number of channels with ch, for instance {key} 5ch."
    if wanted in ("tuple", "list"):
        element = repr(value) if given == "str" else value
        return f'. Write a list, on the command line in quotes: {key} "({element},)".'
    if (wanted, given) == ("float", "int"):
        return f". Write the number with a point: {key} {value}.0."
    if (wanted, given) == ("int", "float"):
        number = float(value)
        instead = f": {key} {number:.0f}" if number.is_integer() else ""
        return f". Write a whole number, in digits alone{instead}."
    kinds = {"int": "a whole number", "float": "a number", "bool": "True or False", "str": "text"}
    return f". Write {kinds[wanted]}." if wanted in kinds else ""


def _is_known(cfg: CfgNode, key: str) -> bool:
    node: Any = cfg
    for part in key.split("."):
        if not isinstance(node, CfgNode) or part not in node:
            return False
        node = node[part]
    return True


def _no_key(cfg: CfgNode, unknown: Sequence[str]) -> ConfigError:
    """Return the error of a file's or of the command line's keys that do not exist.

    It names all of them: whoever brings the config of other code should not meet them one by one.
    """
    key, *others = unknown
    nearest = difflib.get_close_matches(key, list(dotted_values(cfg)), n=1, cutoff=0)[0]
    if not others:
        return ConfigError(
            f"There is no key {key}. The most similar key is {nearest}. Correct the key, or remove "
            "it."
        )
    named = ", ".join(others[:_NAMED]) + ", ..." * (len(others) > _NAMED)
    return ConfigError(
        f"There is no key {key}. The most similar key is {nearest}. Correct the key, or remove it, "
        f"and {len(others)} more that do not exist: {named}. If other code wrote this config, take "
        "one of this package's (docs/published.md) and change what differs; with a checkpoint, "
        "python -m solo_family convert CHECKPOINT NEW.pth --source-config FILE takes the keys that "
        "exist from such a FILE."
    )
