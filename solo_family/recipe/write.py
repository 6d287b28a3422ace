"""Write a recipe as a yaml file that can be read and edited."""

import os
from pathlib import Path
from typing import Any

from ..files import replacing
from ..own_configs import address
from .choice import Choice

_WIDTH = 44  # of a line before its comment


def as_yaml(base: str, choices: list[Choice], head: str) -> str:
    """Return the text of a config.

    Args:
        base: the path that it inherits from.
        choices: its lines; each key once.
        head: comment lines at the top, without "#".
    """
    lines = [*(f"# {line}" for line in head.splitlines()), f"_BASE_: {_quoted(base)}"]
    tree: dict[str, Any] = {}
    for choice in choices:
        node = tree
        *parents, last = choice.key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = choice
    return "\n".join([*lines, *_lines(tree, "")]) + "\n"


def _lines(tree: dict[str, Any], indent: str) -> list[str]:
    lines = []
    for key, value in tree.items():
        if isinstance(value, Choice):
            line = f"{indent}{key}: {_value(value.value)}"
            lines.append(f"{line:<{_WIDTH}}  # {' '.join(value.reason.split())}")
        else:
            lines += [f"{indent}{key}:", *_lines(value, f"{indent}  ")]
    return lines


def _value(value: Any) -> str:
    """Return a value as yaml that every reader takes for what it is."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float):  # yaml takes 1e-05 for text
        return f"{value:.12f}".rstrip("0") + ("0" if value == int(value) else "")
    return str(value)


def _quoted(text: str) -> str:
    if text.isprintable() and "'" not in text:
        return f"'{text}'"
    # In double quotes yaml reads escapes like Python's in ASCII.
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def base_path(base: Path, output: Path) -> str:
    """Return the base as the file `output` names it, so that `output` can be moved if possible.

    A config of the package has an address that is the same on every machine. Another one is named
    relative to the folder of `output` if it is below it or both are below the current folder, which
    can then be moved as a whole; otherwise its path is absolute.
    """
    own = address(base)
    if own:
        return own
    base, folder, here = base.resolve(), output.resolve().parent, Path.cwd()
    together = base.is_relative_to(here) and folder.is_relative_to(here)
    if together or base.is_relative_to(folder):
        return Path(os.path.relpath(base, folder)).as_posix()
    return os.fspath(base)


def write(text: str, output: Path) -> None:
    """Write the text, completely or not at all.

    Raises:
        OSError: it can't be written.
    """
    with replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
