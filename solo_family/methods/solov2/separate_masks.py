"""Compute mask features of its own for every level, the alternative that SOLOv2 was compared with.

SOLOv2, arXiv 2003.10152, section 3.1.2 of the NeurIPS version ("Unified Mask Feature
Representation", Table 3): "to learn the feature in the head separately for each FPN level", which
the paper implements "as SOLO" with seven 3x3 convolutions.

B images, C cells of all levels, E channels of the mask features, L levels, S grid side, n cells.
"""

from dataclasses import dataclass
from itertools import accumulate

from torch import Tensor, nn

from ...modeling.layers import ConvTower, append_coords_to_levels
from ...ops import dynamic_conv
from ...ops.decode_masks import dynamic_conv_in_float32
from ...ops.resize_maps import upsample_twofold
from ...ops.take import take_rows
from ..grid.level_masks import all_levels, resize
from ..grid.mask_decoder import GridOutputs
from .unfold import unfold

_CONVS = 7


@dataclass(frozen=True)
class SeparateOutputs(GridOutputs):
    """Hold the predictions of the head and the mask features of every level; see `GridOutputs`.

    Attributes:
        kernels: [B, C, E], the mask kernels of the cells of all levels.
        mask_features: L x [B, E, 2 H_l, 2 W_l].
    """

    kernels: Tensor
    mask_features: list[Tensor]


class SeparateMaskBranch(nn.Module):
    """Run SOLO's tower of seven convolutions on every level; all levels share its weights.

    As in SOLO its output is upsampled twofold, and is what a 1x1 convolution makes masks of.

    Args:
        in_channels: channels of every level.
        out_channels: channels of the convolutions, and of the mask features.
        norm: see `make_norm`.
        coords: append coordinates to every level.
        dcn: "", or "DCN" or "DCNv2" to make all convolutions deformable.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        norm: str = "GN",
        coords: bool = True,
        dcn: str = "",
    ) -> None:
        super().__init__()
        self.coords = coords
        self.tower = ConvTower(in_channels + 2 * coords, out_channels, _CONVS, norm=norm, dcn=dcn)

    def forward(self, levels: list[Tensor], kernel_size: int) -> list[Tensor]:
        """Return the mask features, L x [B, E, 2 H_l, 2 W_l].

        Args:
            levels: L x [B, C, H_l, W_l], at the head's strides.
            kernel_size: the side of the dynamic convolutions; see `unfold`.
        """
        if self.coords:
            levels = append_coords_to_levels(levels)
        return [unfold(upsample_twofold(self.tower(level)), kernel_size) for level in levels]


class SeparateMasks:
    """Convolve the mask features of a cell's own level with its kernel; see `LevelMasks`.

    Args:
        num_grids: S of each level.
    """

    def __init__(self, num_grids: list[int]) -> None:
        self.num_grids = num_grids
        self._firsts = [0, *accumulate(side * side for side in num_grids)]

    def mask_logits(self, level: int, outputs: SeparateOutputs, cells: Tensor) -> Tensor:
        """Return the mask logits of given cells of one level, [n, 2 H_l, 2 W_l]."""
        kernels = outputs.kernels.index_select(0, self._firsts[level] + cells)
        return dynamic_conv(kernels, outputs.mask_features[level])

    def mask_probabilities(
        self, level: int, outputs: SeparateOutputs, cells: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Return the masks of given cells of one level as probabilities; see `LevelMasks`.

        They are resized after the sigmoid, as SOLO's are.
        """
        kernels = take_rows(outputs.kernels, self._firsts[level] + cells)
        logits = dynamic_conv_in_float32(kernels, outputs.mask_features[level])
        return resize(logits.sigmoid_(), size)

    def traceable_probabilities(
        self, outputs: SeparateOutputs, cells: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Return the masks of cells of any level; see `LevelMasks`."""
        return all_levels(self, outputs, cells, size)
