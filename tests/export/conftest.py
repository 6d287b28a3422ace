"""Each method exported once, for all tests that only read the folder."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from detectron2.engine import DefaultPredictor

from .exporting import export

Exported = Callable[[str], tuple[Path, DefaultPredictor]]


@pytest.fixture(scope="session")
def exported_method(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Returns a method's folder for images of any size, and what predicts with its model."""

    @cache
    def of(method: str) -> tuple[Path, DefaultPredictor]:
        folder = tmp_path_factory.mktemp(method) / "exported"
        return folder, export(method, folder)

    return of
