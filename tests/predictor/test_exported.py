"""Exported models in place of detectron2's predictors."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from solo_family import METHODS
from solo_family.config import get_cfg
from solo_family.export.results import PredictedInstances, Prediction
from solo_family.predictor.exported import as_detectron2, exported_metadata
from solo_family.saving.picture import Classes


def _model(folder: Path, method: str, candidates: int = 500) -> Any:
    return SimpleNamespace(folder=folder, description={"method": method, "candidates": candidates})


def _prediction(truncated: bool) -> Prediction:
    found = PredictedInstances(np.array([0.5], np.float32), np.array([1]), np.ones((1, 4, 6), bool))
    return Prediction(found, truncated=truncated)


def test_candidates_that_are_left_out_are_told_once_for_each_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("first", "second"):
        model = _model(tmp_path / name, "SOLOv2")
        for truncated in (False, True, True):
            found = as_detectron2(_prediction(truncated), model)
            assert found["instances"].pred_classes.tolist() == [1]
    told = [record.getMessage() for record in caplog.records]
    assert [text.partition(" has left candidates out: ")[0] for text in told] == [
        str(tmp_path / "first"),
        str(tmp_path / "second"),
    ]
    assert "--opts MODEL.SOLOV2.NMS_PRE 2000." in told[0]


@pytest.mark.parametrize("method", ["SOLO", "DecoupledSOLO", "SOLOv2", "InstanceFCN"])
def test_the_key_that_is_told_is_the_methods(
    method: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert method in METHODS
    as_detectron2(_prediction(True), _model(tmp_path, method))
    (record,) = caplog.records
    _, _, advice = record.getMessage().rstrip(".").partition("--opts ")
    get_cfg().merge_from_list(advice.split())


@pytest.mark.parametrize("results", [{}, {"results": {"stuff_classes": [1]}}])
def test_what_is_stuff_is_exported(results: dict[str, Any]) -> None:
    """Files of results say it of every class, also of those that no picture has."""
    description = {"classes": ["cat", "sky"], "category_ids": [3, 9], "drawing": {}} | results
    classes = Classes(exported_metadata(description))
    assert [classes.id(label) for label in range(2)] == [3, 9]
    assert [classes.is_thing(label) for label in range(2)] == [True, not results]
