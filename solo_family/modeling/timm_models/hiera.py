"""Let timm's Hiera (arXiv 2306.00989) take images of any size."""

from typing import Any

from timm.layers import resample_abs_pos_embed
from timm.models.hiera import Hiera, Reroll, Unroll
from torch import Tensor, nn

# Pixels of a mask unit, of which the maps of an image have a whole number.
MULTIPLE = 32


def make_any_size(model: nn.Module) -> None:
    """Change a Hiera, in place; other modules stay as they are."""
    for module in model.modules():
        if type(module) is Hiera:
            module.trained_shape = list(module.tokens_spatial_shape)
            module.__class__ = _AnySizeHiera


class _AnySizeHiera(Hiera):
    """timm's Hiera, in which the order of tokens follows the image, and not the training images.

    Position embeddings are resized bicubically. Those of models named `abswin` are made for this
    (arXiv 2311.05613); in the others the part within windows is resized with the whole.

    Attributes:
        trained_shape: (rows, columns) of tokens in training images.
    """

    trained_shape: list[int]
    unroll: Unroll

    def forward_intermediates(self, x: Tensor, *args: Any, **options: Any) -> Any:
        """Return features as timm's method does, for images of any multiple of 32 pixels."""
        height, width = x.shape[-2:]
        stride = self.patch_stride
        self.tokens_spatial_shape = [height // stride[0], width // stride[1]]
        self.mask_spatial_shape = [
            tokens // unit for tokens, unit in zip(self.tokens_spatial_shape, self.mask_unit_size)
        ]
        order = ((height, width), stride, self.unroll.schedule)
        self.unroll = Unroll(*order)
        self.reroll = Reroll(*order, self.stage_ends, self.q_pool)
        return super().forward_intermediates(x, *args, **options)

    def _pos_embed(self, x: Tensor) -> Tensor:
        if self.pos_embed_win is not None or self.tokens_spatial_shape == self.trained_shape:
            return super()._pos_embed(x)
        return x + resample_abs_pos_embed(
            self.pos_embed, self.tokens_spatial_shape, self.trained_shape, num_prefix_tokens=0
        )
