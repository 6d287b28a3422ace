"""Segmentation without boxes on detectron2.

    from solo_family import Predictor

    predict = Predictor("output/my_run")
    result = predict("photo.jpg")

Importing this package is fast: torch and detectron2 are imported when something that needs them is
used. Nevertheless all meta-architectures, backbones and datasets are registered with detectron2, in
whichever order the two packages are imported, and detectron2's checkpointer reads .safetensors and
runs no code from a file: see `solo_family.detectron2_patches`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import methods as _methods  # noqa: F401  fills METHODS
from .detectron2_patches import follow_detectron2
from .registry import METHODS
from .version import __version__

if TYPE_CHECKING:
    from . import model_zoo, ops
    from .config import add_solo_family_config, get_cfg
    from .predictor import Predictor

# The submodule that defines each name whose import needs torch; "" if the name is a submodule.
_LAZY = {
    "Predictor": "predictor",
    "add_solo_family_config": "config",
    "get_cfg": "config",
    "model_zoo": "",
    "ops": "",
}

__all__ = [
    "METHODS",
    "Predictor",
    "__version__",
    "add_solo_family_config",
    "get_cfg",
    "model_zoo",
    "ops",
]

follow_detectron2()


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .threads import while_importing

    with while_importing():
        module = importlib.import_module(f"{__name__}.{_LAZY[name] or name}")
    return getattr(module, name) if _LAZY[name] else module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
