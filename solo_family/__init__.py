"""Segmentation without boxes on detectron2.

Importing this registers the meta-architectures, backbones and datasets with detectron2, and lets
its checkpointer read .safetensors, and run no code of a file. Where torch is not installed nothing
is registered, and only `solo_family.export.runtime` works.
"""

import importlib.util
from typing import TYPE_CHECKING, Any

from .version import __version__

_INSTALL = {
    "detectron2": "detectron2, which has no official package on PyPI. With its source: "
    "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2'. "
    "From PyPI alone: `make .venv/.done` in a clone of solo_family, or the command in its Makefile",
    "cv2": "OpenCV: pip install opencv-python-headless (or opencv-python)",
}


def _check_requirements() -> None:
    """Raises ImportError, with what to type, for packages that pip could not be told of."""
    for module, remedy in _INSTALL.items():
        if importlib.util.find_spec(module) is None:
            raise ImportError(f"solo_family needs {remedy}.")


if TYPE_CHECKING or importlib.util.find_spec("torch") is not None:
    _check_requirements()

    from . import methods as _register_meta_archs  # noqa: F401
    from .checkpoint.detectron2_files import read_safely_with_detectron2
    from .config import add_solo_family_config, get_cfg
    from .data.formats import builtin as _register_public_datasets  # noqa: F401
    from .data.formats import register as _register_datasets  # noqa: F401
    from .registry import METHODS

    # detectron2's own checkpointer, and so its DefaultPredictor, then takes .safetensors too, and
    # runs nothing that a file names.
    read_safely_with_detectron2()
else:

    def __getattr__(name: str) -> Any:
        if name in __all__:
            raise ImportError(
                f"solo_family.{name} needs torch, which is not installed: pip install torch "
                "torchvision. Without it only solo_family.export.runtime works."
            )
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["METHODS", "__version__", "add_solo_family_config", "get_cfg"]
