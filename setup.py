"""Pure Python: nothing is compiled, and torch need not be there to build the package."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"', (HERE / "solo_family" / "version.py").read_text(), re.M
)
assert VERSION is not None

setup(
    name="solo-family",
    version=VERSION.group(1),
    description="Segmentation without boxes: SOLO, SOLOv2, InstanceFCN, MaskFormer, SparseInst "
    "for detectron2",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    # What the tests are run with. Elsewhere `import solo_family` works; nothing else was tried.
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
    ],
    packages=[*find_packages(include=["solo_family", "solo_family.*"]), "solo_family.configs"],
    package_dir={"solo_family.configs": "configs"},
    package_data={
        "solo_family": ["py.typed", "model_zoo/*.csv", "ops/*.cu", "ops/*.cuh"],
        "solo_family.configs": ["**/*.yaml"],
    },
    python_requires=">=3.11",
    # detectron2 is not on PyPI under its name, and of the two builds of OpenCV either will do:
    # `import solo_family` checks for both and says what to type.
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "timm>=1.0",
        "numpy>=1.26",
        "scipy>=1.11",
        "fvcore>=0.1.5.post20221221",
        "pycocotools>=2.0.7",
        "safetensors>=0.4",
        # Registers ours with detectron2 when that is imported.
        "wrapt>=1.16",
        "huggingface_hub>=0.23",
        # Its locks are not held by the processes that its owner forks.
        "filelock>=4.3",
        # detectron2 crops polygons with it.
        "shapely>=2.0",
    ],
    extras_require={
        "eval": ["faster-coco-eval>=1.6"],
        "export": ["onnx>=1.16", "onnxruntime>=1.18"],
        "dev": ["pytest>=8", "hypothesis>=6", "ruff>=0.9", "mypy>=1.11"],
    },
    entry_points={"console_scripts": ["solo-family = solo_family.__main__:main"]},
)
