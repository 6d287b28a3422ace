"""Resizing in programs of torch.export."""

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from solo_family.ops.resize import resize_bilinear


class _ToGrid(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return resize_bilinear(features, (6, 6))


@pytest.mark.parametrize("made_with", [(5, 8), (6, 6)])
def test_a_program_takes_maps_of_the_grid_s_size_and_of_others(made_with: tuple[int, int]) -> None:
    sides = {2: Dim("rows", min=2), 3: Dim("columns", min=2)}
    given = torch.rand(1, 2, *made_with)
    program = torch.export.export(_ToGrid(), (given,), dynamic_shapes=(sides,)).module()
    for size in [(5, 8), (6, 6), (6, 9)]:
        features = torch.rand(1, 2, *size)
        assert torch.equal(program(features), _ToGrid()(features))
