"""What pip could not be told that a package of ours needs, and what to type for it."""

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
    """Refuse to go on without torch, detectron2 or OpenCV.

    Raises:
        ImportError: names the one that is missing, and what to type.
    """
    for module, remedy in _INSTALL.items():
        if importlib.util.find_spec(module) is None:
            raise ImportError(f"solo_family needs {remedy}.", name=module)
