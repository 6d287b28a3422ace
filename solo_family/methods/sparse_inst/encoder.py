"""Encode features with pyramid pooling and top-down fusion into one map.

SparseInst, arXiv 2203.12827, "Instance Context Encoder".

B images, C channels of the encoder.
"""

from collections.abc import Sequence

import torch
from fvcore.nn.weight_init import c2_msra_fill, c2_xavier_fill
from torch import Tensor, nn

from ...modeling.layers import AdaptiveAveragePool
from ...ops.resize_maps import add_enlarged, resize_map


class PyramidPooling(nn.Module):
    """PSPNet's pyramid pooling (arXiv 1612.01105): every position sees the whole image.

    Args:
        channels: number of channels of input and output.
        branch_channels: number of channels of each pooled branch.
        bins: sides of the pooled maps.
    """

    def __init__(
        self, channels: int, branch_channels: int, bins: Sequence[int] = (1, 2, 3, 6)
    ) -> None:
        super().__init__()
        # These convolutions keep torch's own initialisation, as published.
        self.stages = nn.ModuleList(
            nn.Sequential(AdaptiveAveragePool(side), nn.Conv2d(channels, branch_channels, 1))
            for side in bins
        )
        self.bottleneck = nn.Conv2d(channels + len(bins) * branch_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the input's shape, [B, C, H, W]."""
        pooled = [stage(x).relu() for stage in self.stages]
        spread = [resize_map(bins, x.shape[-2:]) for bins in pooled]
        return self.bottleneck(torch.cat([*spread, x], dim=1)).relu()


class InstanceContextEncoder(nn.Module):
    """Fuse the backbone's features into one map at the stride of the finest.

    There is no normalisation, and no ReLU after the lateral convolutions.

    Args:
        in_channels: numbers of channels of the features, the finest first; each has half the side
            of the one before.
        channels: C.
        pyramid_pooling: whether the coarsest level passes through `PyramidPooling`.
        fusion: whether all levels are joined; otherwise the finest, which has the others' sums in
            it, is the result.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        channels: int = 256,
        pyramid_pooling: bool = True,
        fusion: bool = True,
    ) -> None:
        super().__init__()
        # From coarse to fine, the order of the top-down path.
        self.fpn_laterals = nn.ModuleList(
            nn.Conv2d(given, channels, 1) for given in reversed(in_channels)
        )
        self.fpn_outputs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1)
            for _ in (in_channels if fusion else in_channels[:1])
        )
        self.ppm = PyramidPooling(channels, channels // 4) if pyramid_pooling else nn.Identity()
        self.fusion = nn.Conv2d(len(in_channels) * channels, channels, 1) if fusion else None
        for conv in (*self.fpn_laterals, *self.fpn_outputs):
            c2_xavier_fill(conv)
        if self.fusion is not None:
            c2_msra_fill(self.fusion)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Fuse the levels.

        Args:
            features: [B, C_l, H_l, W_l], the finest first.

        Returns:
            [B, C, H_0, W_0].
        """
        coarsest_first = features[::-1]
        sums = [self.ppm(self.fpn_laterals[0](coarsest_first[0]))]
        for lateral, feature in zip(self.fpn_laterals[1:], coarsest_first[1:]):
            sums.append(add_enlarged(lateral(feature), sums[-1]))
        if self.fusion is None:
            return self.fpn_outputs[0](sums[-1])
        outputs = [output(x) for output, x in zip(self.fpn_outputs, sums)]
        finest = outputs.pop()
        resized = [resize_map(output, finest.shape[-2:]) for output in reversed(outputs)]
        return self.fusion(torch.cat([finest, *resized], dim=1))
