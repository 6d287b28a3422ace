"""Segmentation without boxes on detectron2.

    from solo_family import Predictor

    predict = Predictor("output/my_run")
    result = predict("photo.jpg")

Importing this is light: torch and detectron2 are imported when something is used that needs them.
The meta-architectures, backbones and datasets are registered with detectron2 all the same, in
whichever order the two are imported, and its checkpointer reads .safetensors and runs no code of a
file: see `solo_family.detectron2_patches`.
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

# Where each name of this package is that needs more than Python. A module stands for itself.
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
    module = importlib.import_module(f"{__name__}.{_LAZY[name] or name}")
    return getattr(module, name) if _LAZY[name] else module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
