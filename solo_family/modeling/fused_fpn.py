"""detectron2's feature pyramid, whose sums of two levels are one kernel on a GPU.

Feature Pyramid Networks, arXiv 1612.03144, section 3.
"""

from __future__ import annotations

from detectron2.modeling.backbone import FPN
from torch import Tensor

from ..ops.resize_maps import add_enlarged


class FusedFPN(FPN):
    """The pyramid for inference, with detectron2's parameters and results."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the levels, by their names in ascending order of stride, of `x`, [B, C, H, W]."""
        features = self.bottom_up(x)
        levels: list[Tensor] = []
        above: Tensor | None = None
        names = reversed(self.in_features)
        for name, lateral, output in zip(names, self.lateral_convs, self.output_convs):
            level = lateral(features[name])
            if above is not None:
                level = add_enlarged(level, above)
                if self._fuse_type == "avg":
                    level = level / 2
            above = level
            levels.insert(0, output(level))
        if self.top_block is not None:
            given = features.get(self.top_block.in_feature)
            if given is None:
                given = levels[self._out_features.index(self.top_block.in_feature)]
            levels += self.top_block(given)
        return dict(zip(self._out_features, levels, strict=True))
