"""Results are stored in torch's format without a question about each of their numbers."""

import io
from typing import Any

import pytest
import torch

from solo_family.evaluation.plain_save import save_plain

RESULTS = [
    {"image_id": 7, "score": 0.25, "segmentation": {"size": [4, 5], "counts": "0b4"}},
    {"image_id": 8, "bbox": [1.5, 2.0, 3.0, 4.0]},
]


@pytest.mark.parametrize("weights_only", [True, False])
def test_torch_reads_what_was_saved(weights_only: bool) -> None:
    file = io.BytesIO()
    save_plain(RESULTS, file)
    file.seek(0)
    assert torch.load(file, weights_only=weights_only) == RESULTS


def test_torch_is_not_asked_about_each_number(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    is_storage = torch.is_storage
    monkeypatch.setattr(torch, "is_storage", lambda one: asked.append(one) or is_storage(one))
    torch.save(RESULTS, io.BytesIO())
    assert len(asked) > 20  # what this test counts still exists
    asked.clear()
    save_plain(RESULTS, io.BytesIO())
    assert not asked
