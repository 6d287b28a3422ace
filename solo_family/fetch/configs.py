"""The configs that come with the package."""

from ..errors import ConfigError
from ..own_configs import config_root


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
