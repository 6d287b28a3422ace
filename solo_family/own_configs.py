"""Where the package's own configs are, and the address by which other configs inherit from them."""

import os
from pathlib import Path

# Before the name of a config of the package, in `_BASE_`.
PREFIX = "solo_family://"
_PACKAGE = Path(__file__).resolve().parent


def config_root() -> Path:
    """Return the folder of configs, which is in an installed package, or beside it in a clone."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def config_path(path: str) -> str:
    """Return the path of a config that may be one of the package's own.

    Args:
        path: any path; what follows `PREFIX` in it is relative to the folder of configs, whatever
            is before: detectron2 puts the folder of the inheriting file there.
    """
    _, prefix, name = path.partition(PREFIX)
    return os.path.normpath(config_root() / name) if prefix else path


def address(path: Path) -> str:
    """Return the address of a config of the package; "" if it is none."""
    root = config_root().resolve()
    path = path.resolve()
    return PREFIX + path.relative_to(root).as_posix() if path.is_relative_to(root) else ""
