"""Imports mmdet where mmcv-lite is installed, which lacks mmcv's compiled operators.

The models that are built here run none of them but the focal loss in training on a GPU.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any


def import_mmdet() -> types.ModuleType:
    """Import mmdet, with all that it registers, and return it; its configs come with it."""
    if not any(isinstance(finder, CompiledOps) for finder in sys.meta_path):
        sys.meta_path.insert(0, CompiledOps())
        import mmcv.cnn.bricks.transformer as transformer

        transformer.MultiScaleDeformableAttention = type("Unused", (), {})
    import mmdet
    from mmdet.utils import register_all_modules

    register_all_modules()
    return mmdet


class CompiledOps(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for mmcv's compiled operators: every name in `mmcv.ops` is an empty class."""

    class Module(types.ModuleType):
        __path__: list[str] = []  # noqa: RUF012 that of a package without files

        def __getattr__(self, name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.split(".")[:2] == ["mmcv", "ops"]:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return self.Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None: ...
