"""A source's own config: the keys of detectron2's kind that are ours too. Nothing in it is run."""

from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ..config import get_cfg
from ..config.load import dotted_values, read_chain
from ..errors import ConfigError

# What is of the model; the rest is of its training.
_PARTS = ("MODEL.", "INPUT.", "TEST.")
_CODE = "code, which is not run"


class _CodeAsText(yaml.SafeLoader):
    """Reads Python code in yaml (MaskFormer's image sizes) as a note that there was some."""


_CodeAsText.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: _CODE)


def read_source_config(path: str | Path) -> tuple[dict[str, Any], list[str]]:
    """Read a yaml config of AdelaiDet, SparseInst or MaskFormer, and those that it inherits from.

    Args:
        path: of the yaml file.

    Returns:
        Values by dotted key, of the keys of a model that are known here; and the other names.

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
