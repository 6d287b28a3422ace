"""Compute SOLOv2's mask features, one map for all levels.

SOLOv2, arXiv 2003.10152, section 2.1.2 of the NeurIPS version ("Mask Feature F").

B images, C channels, E channels of the mask features.
"""

from torch import Tensor, nn

from ...modeling.layers import ConvNormReLU, ConvTower, append_coords
from ...modeling.layers.coord import Span
from ...modeling.layers.deform_conv import DeformConv2d
from ...ops.resize_maps import upsample_twofold


class MaskFeatureBranch(nn.Module):
    """Sum the feature levels at the size of the finest, and project them with a 1x1 convolution.

    Level l > 0 passes l times through a 3x3 convolution, normalisation, ReLU and twofold bilinear
    upsampling. Level 0 passes once through the same layers without upsampling.

    Args:
        in_channels: channels of every level.
        num_levels: number of levels, each half as large as the one before.
        channels: channels of the convolutions.
        out_channels: E, channels of the mask features.
        norm: see `make_norm`.
        coord_level: index of the level to which coordinates are appended; no level has them if the
            index is None or too large.
        dcn: "", or "DCN" or "DCNv2" to make all convolutions deformable, including the projection.
        coord_span: height and width, in pixels of that level, that coordinates from -1 to 1 span;
            None for the level's own.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_levels: int,
        channels: int,
        out_channels: int,
        norm: str = "GN",
        coord_level: int | None = 3,
        dcn: str = "",
        coord_span: Span | None = None,
    ) -> None:
        super().__init__()
        self.coord_span = coord_span
        self.coord_level = coord_level
        self.levels = nn.ModuleList()
        for level in range(num_levels):
            first = in_channels + 2 * (level == coord_level)
            self.levels.append(ConvTower(first, channels, max(level, 1), norm=norm, dcn=dcn))
        self.projection = ConvNormReLU(channels, out_channels, 1, norm=norm, dcn=dcn)
        for module in self.modules():
            # The official initialisation of this branch, unlike that of the towers, is of all
            # convolutions, and so of those that predict offsets.
            if isinstance(module, DeformConv2d):
                nn.init.normal_(module.offset.weight, std=0.01)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return the mask features, [B, E, H, W].

        Args:
            features: one per level l = 0, 1, ..., [B, C, H / 2^l, W / 2^l].
        """
        features = [
            append_coords(feature, self.coord_span) if level == self.coord_level else feature
            for level, feature in enumerate(features)
        ]
        total: Tensor | None = None
        for level, (convs, feature) in enumerate(zip(self.levels, features)):
            if level == 0:
                total = convs(feature)
                continue
            *others, last = convs.children()
            for conv in others:
                feature = upsample_twofold(conv(feature))
            total = upsample_twofold(last(feature), total)
        assert total is not None
        return self.projection(total)
