"""The check for required packages that pip can't install as dependencies."""

import importlib.util

_INSTALL = {
    "torch": "torch: pip install torch torchvision. Without it only "
    "solo_family.export.runtime works",
    "detectron2": "detectron2, which has no official package on PyPI. With its source: "
    "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2'. "
    "From PyPI alone: `make .venv/.done` in a clone of solo_family, or the command in its Makefile",
    "cv2": "OpenCV: pip install opencv-python-headless (or opencv-python)",
}


def check_requirements() -> None:
    """Check that torch, detectron2 and OpenCV are installed.

    Raises:
        ImportError: one is missing; the message names it and the command that installs it.
    """
    for module, remedy in _INSTALL.items():
        if importlib.util.find_spec(module) is None:
            raise ImportError(f"solo_family needs {remedy}.", name=module)
