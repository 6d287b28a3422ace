"""What the finished shards of an output folder are of, so that a second start goes on with them."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from ...errors import ConfigError, DataError
from ..source import Source
from .folder import Folder

MANIFEST = "manifest.json"
INPUTS = "inputs.txt"
_KIND = "solo_family predict-many 1"
_MEANING = re.compile(r"[#@~\s-]")


def begin(
    folder: Folder, sources: Sequence[Source], settings: dict[str, Any], shard_size: int
) -> int:
    """Begin a run in an empty folder, or go on with the one that is there.

    Args:
        folder: of the shards.
        sources: all pictures.
        settings: by flag, what the results depend on; values that JSON can have.
        shard_size: of a new run.

    Returns:
        The number of pictures of a shard.

    Raises:
        ConfigError: the folder has the results of other pictures, another model or other settings.
        DataError: the folder can't be read or written, or has a manifest of another program.
    """
    names = [json.dumps([source.file_name, source.page]) for source in sources]
    inputs = {"pictures": len(names), "sha256": _digest(names)}
    if MANIFEST in folder.names():
        return _go_on(folder, inputs, settings)
    folder.write(
        INPUTS, "".join(f"{name}\n" for name in _lines(sources)).encode(errors="surrogateescape")
    )
    content = {"kind": _KIND, "inputs": inputs, "settings": settings, "shard_size": shard_size}
    # Last, because it is what makes the run begun.
    folder.write(MANIFEST, json.dumps(content, indent=1).encode())
    return shard_size


def _go_on(folder: Folder, inputs: dict[str, Any], settings: dict[str, Any]) -> int:
    with folder.open(MANIFEST) as file:
        try:
            known = json.loads(file.read())
            is_ours = known["kind"] == _KIND
        except (ValueError, KeyError, TypeError):
            is_ours = False
    if not is_ours:
        raise DataError(
            f"{folder}: its {MANIFEST} is not of this version's predict-many. Name another "
            "--output."
        )
    for flag, value in settings.items():
        before = known["settings"].get(flag)
        if before != value:
            change = "has changed" if flag == "the model" else f"was {before!r}, and is {value!r}"
            raise ConfigError(
                f"{folder} has results with other settings: {flag} {change}. Go on with those of "
                "the first start, or name another --output."
            )
    before = known["inputs"]
    if before != inputs:
        place = "" if folder.local is None else f"{folder.local}/"
        copy = f"a copy of {folder}/{INPUTS}, as " if folder.local is None else ""
        raise ConfigError(
            f"{folder} has results of other pictures: {before['pictures']} at the first start, "
            f"{inputs['pictures']} now, which are not the same. Give {copy}--input "
            f"@{place}{INPUTS} to go on with those of the first start, or name another --output."
        )
    return int(known["shard_size"])


def _lines(sources: Sequence[Source]) -> list[str]:
    """Return the lines of a list of the pictures, each file once."""
    names = dict.fromkeys(source.file_name for source in sources)
    # In a list some first letters have a meaning.
    return [f"./{name}" if _MEANING.match(name) else name for name in names]


def _digest(names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\n")
    return digest.hexdigest()
