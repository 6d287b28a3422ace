"""Packages that detectron2 reads and evaluates some datasets with, each an extra of this one."""

import importlib

from detectron2.data import MetadataCatalog

from ...errors import DataError, first_line

# By the `evaluator_type` of the dataset: the module of the evaluation, which is the last that is
# imported, what its package is called at PyPI, and our extra.
_PACKAGES = {
    "lvis": ("lvis", "lvis", "lvis"),
    "cityscapes_instance": (
        "cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling",
        "cityscapesScripts",
        "cityscapes",
    ),
}


def check_package(name: str) -> None:
    """Check that what reads and evaluates a registered dataset can be imported.

    Raises:
        DataError: it can't; names it, and the command that installs it.
    """
    kind = MetadataCatalog.get(name).get("evaluator_type")
    if kind not in _PACKAGES:
        return
    module, distribution, extra = _PACKAGES[kind]
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"Dataset {name!r} is read and evaluated with the package {distribution}, which can't "
            f"be imported ({first_line(error)}): pip install {distribution} (the extra "
            f"solo-family[{extra}])"
        ) from error
