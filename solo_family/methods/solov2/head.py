"""Predict categories and mask kernels with SOLOv2's head, on every level of the feature pyramid.

SOLOv2, arXiv 2003.10152, section 2.1.1 of the NeurIPS version ("Mask Kernel G").

B images, C channels (of features) or cells of all levels (of kernels), L levels, S grid side (one
per level), K classes, E kernel weights.
"""

from typing import NamedTuple, Unpack

import torch
from torch import Tensor, nn

from ...modeling.layers import ConvTower, TowerOptions, coordinate_maps
from ...modeling.layers.coord import Span
from ...ops.resize import resize_bilinear, sample_cells
from ..grid.category_branch import CategoryBranch
from ..grid.layout import GridLayout


class CategoriesAndKernels(NamedTuple):
    """Hold the head's predictions.

    Attributes:
        category_logits: L x [B, K, S_l, S_l].
        kernels: [B, C, E], the mask kernels of the cells of all levels; within a level, row by row.
    """

    category_logits: list[Tensor]
    kernels: Tensor


class SOLOv2Head(nn.Module):
    """Predict, for every cell of every level's grid, a category and a mask kernel.

    All levels share the weights of both branches. Coordinates are appended to the features of the
    kernel branch only.

    Args:
        in_channels: channels of the features.
        layout: how many cells each level has.
        strides: of each level.
        channels: channels of the towers.
        num_classes: K.
        num_kernels: E.
        coord_conv: append coordinates to the input of the kernel branch.
        prior_prob: see `CategoryBranch`.
        tower: the other arguments of both towers, see `ConvTower`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        layout: GridLayout,
        strides: list[int],
        channels: int,
        num_classes: int,
        num_kernels: int,
        coord_conv: bool = True,
        prior_prob: float = 0.01,
        **tower: Unpack[TowerOptions],
    ) -> None:
        super().__init__()
        self.layout = layout
        self.strides = strides
        self.in_channels = in_channels
        self.coord_conv = coord_conv
        self.category_branch = CategoryBranch(
            in_channels=in_channels,
            channels=channels,
            num_classes=num_classes,
            prior_prob=prior_prob,
            **tower,
        )
        self.kernel_tower = ConvTower(in_channels + 2 * coord_conv, channels, **tower)
        self.kernel_predictor = nn.Conv2d(channels, num_kernels, 3, padding=1)
        nn.init.normal_(self.kernel_predictor.weight, std=0.01)
        assert self.kernel_predictor.bias is not None
        nn.init.zeros_(self.kernel_predictor.bias)

    def forward(self, levels: list[Tensor]) -> CategoriesAndKernels:
        """Run both branches on every level.

        Args:
            levels: L x [B, C, H_l, W_l], at the head's strides.
        """
        grids = [self._to_cells(number, features) for number, features in enumerate(levels)]
        with_coords = grids
        if self.coord_conv:
            with_coords = [
                torch.cat([grid, self._coords_of_cells(number, features)], dim=1)
                for number, (grid, features) in enumerate(zip(grids, levels))
            ]
        towers = [self.kernel_tower(grid) for grid in with_coords]
        kernels = [self.kernel_predictor(tower).flatten(2) for tower in towers]
        return CategoriesAndKernels(
            self.category_branch.classify(grids),
            torch.cat(kernels, dim=2).transpose(1, 2),
        )

    def _coords_of_cells(self, number: int, features: Tensor) -> Tensor:
        """Return a level's coordinates, which are resized as its features are: [B, 2, S, S].

        The official code resizes them together, which costs another copy of the features.
        """
        coords = coordinate_maps(features[:1], self.span_of_coords(number))
        last = features.is_contiguous(memory_format=torch.channels_last)
        if last:
            coords = coords.contiguous(memory_format=torch.channels_last)
        coords = self._to_cells(number, coords).expand(features.shape[0], -1, -1, -1)
        return coords.contiguous(memory_format=torch.channels_last) if last else coords

    def span_of_coords(self, number: int) -> Span | None:
        """Return what a level's coordinates span, see `coordinate_maps`."""
        return self.layout.span(self.strides[number])

    def _to_cells(self, number: int, features: Tensor) -> Tensor:
        """Resize a level to its grid: over the whole map, or in cells of one size."""
        side, stride = self.layout.sides[number], self.strides[number]
        span = self.layout.span(stride)
        if span is None:
            return resize_bilinear(features, (side, side))
        # A stride divides what inputs are padded to.
        size = (features.shape[-2] * stride, features.shape[-1] * stride)
        shape = self.layout.shapes(size)[number]
        return sample_cells(features, shape, (span[0] / side, span[1] / side))
