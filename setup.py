"""The packages: pyproject.toml, which holds the rest, can't say that `configs/` is one of them.

Nothing is compiled, and torch need not be there to build it.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["solo_family", "solo_family.*"]), "solo_family.configs"],
    package_dir={"solo_family.configs": "configs"},
    package_data={
        "solo_family": ["py.typed", "fetch/*.csv", "model_zoo/*.csv", "ops/*.cu", "ops/*.cuh"],
        "solo_family.configs": ["**/*.yaml"],
    },
)
