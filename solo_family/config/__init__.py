"""The configuration: detectron2's, with this package's keys added."""

from ..requirements import check_requirements

check_requirements()

from .check import check_config  # noqa: E402  what these import may be missing
from .common import add_common_config  # noqa: E402
from .setup import add_solo_family_config, get_cfg, setup_cfg  # noqa: E402

__all__ = [
    "add_common_config",
    "add_solo_family_config",
    "check_config",
    "get_cfg",
    "setup_cfg",
]
