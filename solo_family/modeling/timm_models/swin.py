"""Let timm's Swin Transformers (arXiv 2103.14030, 2111.09883) take images of any size."""

from typing import Any

import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.swin_transformer_v2 import SwinTransformerV2Block
from torch import Tensor, nn


def pad_before_shifting(model: nn.Module) -> None:
    """Change the blocks of a Swin, in place, to pad maps to whole windows as published.

    Only blocks of timm's own classes change; other modules stay as they are.
    """
    changed: dict[type[nn.Module], type[nn.Module]] = {
        SwinTransformerBlock: _PaddedFirst,
        SwinTransformerV2Block: _PaddedFirstV2,
    }
    for module in model.modules():
        if type(module) in changed:
            module.__class__ = changed[type(module)]


def trained_windows(model: nn.Module) -> list[tuple[int, int]]:
    """Return the size of the windows of each stage, which its training images limited too."""
    stages: Any = getattr(model, "layers", None) or model.stages
    return [tuple(stage.blocks[0].window_size) for stage in stages]


class _PadFirst(nn.Module):
    """Pad the map before it is shifted.

    timm shifts first, which leaves the padding within the map, where the shift moves the map's end.
    """

    window_size: tuple[int, int]

    def _attn(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        window_height, window_width = self.window_size
        padded = F.pad(x, (0, 0, 0, -width % window_width, 0, -height % window_height))
        return super()._attn(padded)[:, :height, :width]  # type: ignore[misc]


class _PaddedFirst(_PadFirst, SwinTransformerBlock):
    """Swin's block."""


class _PaddedFirstV2(_PadFirst, SwinTransformerV2Block):
    """Swin V2's block."""
