"""torch.compile takes each model whole."""

import pytest
import torch
from torch._dynamo import explain

from solo_family import METHODS
from solo_family.export.parity import output_error

from ..conftest import eager_to_find, tiny_model
from .exporting import picture_of


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_exported_part_compiles_without_graph_breaks(method: str) -> None:
    """That is backbone, head, and selection; compiled, they give what they give without."""
    model = eager_to_find(tiny_model(method))
    images = torch.from_numpy(picture_of((64, 96))).permute(2, 0, 1)[None].float()
    torch._dynamo.reset()
    with torch.no_grad():
        found = explain(model.export_forward)(images)
        assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons
        torch._dynamo.reset()
        compiled = torch.compile(model.export_forward, backend="aot_eager", fullgraph=True)
        expected, actual = model.export_forward(images), compiled(images)
    assert list(actual) == list(expected)
    # Rounding may move a pixel across the masks' threshold, which changes that mask's score.
    assert output_error(expected, actual) < 0.01
