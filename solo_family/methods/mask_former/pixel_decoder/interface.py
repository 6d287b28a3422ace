"""What a pixel decoder is."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class PixelDecoder(nn.Module, ABC):
    """From the backbone's features to one map with an embedding for every pixel.

    Attributes:
        mask_dim: channels of the embedding, E.
        stride: of the map.
    """

    mask_dim: int
    stride: int

    @abstractmethod
    def forward_features(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Decodes the backbone's features.

        Args:
            features: of the backbone, [B, C, H, W] each.

        Returns:
            The embeddings, [B, E, H, W], and features for the transformer decoder, or None: it then
            takes the backbone's.
        """
