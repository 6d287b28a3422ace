"""Exported models against the models that they were made from, at toy width."""

from pathlib import Path

import pytest

from solo_family import METHODS
from solo_family.export.parity import prediction_error
from solo_family.export.runtime import ExportedModel

from .exporting import export, picture_of


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_exported_model_finds_what_the_model_finds(method: str, tmp_path: Path) -> None:
    """Of any height and width, and by default MaskFormer's panoptic and instance results."""
    predictor = export(method, tmp_path / "exported")
    exported = ExportedModel(tmp_path / "exported")
    for seed, size in enumerate([(64, 96), (130, 70), (50, 100)]):
        picture = picture_of(size, seed)
        found = exported(picture)
        assert found.instances is not None
        assert len(found.instances) > 0
        assert prediction_error(predictor(picture), found) < 1e-3
