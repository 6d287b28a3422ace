"""The configs that come with the package."""

from pathlib import Path

from ..errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent.parent


def config_root() -> Path:
    """Return the folder of configs, which is in an installed package, or beside it in a clone."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def config_names() -> list[str]:
    """Return the names of all configs that can be run, without those that only serve as a base."""
    root = config_root()
    paths = sorted(root.glob("**/*.yaml"))
    return [p.relative_to(root).as_posix() for p in paths if not p.name.startswith("Base-")]


def get_config_file(name: str) -> str:
    """Return the path of a config.

    Args:
        name: relative to `configs/`, for instance "SOLOv2/solov2_R50_1x.yaml".

    Raises:
        ConfigError: there is no config of that name.
    """
    path = config_root() / name
    if not path.is_file():
        known = ", ".join(sorted(p.name for p in path.parent.glob("*.yaml"))) or "no such folder"
        raise ConfigError(f"There is no config {name!r} in {config_root()}. Available: {known}.")
    return str(path)
