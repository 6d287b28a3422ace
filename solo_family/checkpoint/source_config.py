"""Read from a source's own config the detectron2 keys that ours shares, running no code."""

from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ..config import get_cfg
from ..config.load import dotted_values, read_chain
from ..config.written_lists import TAG, construct
from ..errors import ConfigError

# Keys of the model; the others concern its training.
_PARTS = ("MODEL.", "INPUT.", "TEST.")
_CODE = "code, which is not run"


class _CodeAsText(yaml.SafeLoader):
    """A yaml loader that replaces Python code by a note, except for lists of image sizes."""


def _list_or_note(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    try:
        return construct(loader, node)
    except yaml.constructor.ConstructorError:
        return _CODE


_CodeAsText.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: _CODE)
_CodeAsText.add_constructor(TAG, _list_or_note)


def read_source_config(path: str | Path) -> tuple[dict[str, Any], list[str]]:
    """Read a yaml config of AdelaiDet, SparseInst or MaskFormer, and those that it inherits from.

    Args:
        path: the path of the yaml file.

    Returns:
        The values of the known keys of a model, by dotted key; and the names of all other keys.

    Raises:
        ConfigError: it is not yaml: mmdetection's configs are Python, which is not executed.
    """
    path = Path(path)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"--source-config {path}: only yaml is read. A config in Python (mmdetection's) would "
            "have to be executed, which is not done: write the keys that differ into a yaml file "
            "under our names instead."
        )
    values: dict[str, Any] = {}
    contents = list(read_chain(str(path), load=partial(yaml.load, Loader=_CodeAsText)))
    for content in reversed(contents):
        values |= dotted_values(content)
    known = dotted_values(get_cfg())
    kept = {
        key: value
        for key, value in values.items()
        if key in known and key.startswith(_PARTS) and value != _CODE and key != "MODEL.WEIGHTS"
    }
    return kept, sorted(set(values) - set(kept))
