"""Feature levels as the heads of SOLO and SOLOv2 want them (arXiv 1912.04488, section 3.3.3)."""

from torch import Tensor

from ...ops.resize import resize_bilinear


def align_levels(
    features: list[Tensor], strides: list[int], padded_size: tuple[int, int]
) -> list[Tensor]:
    """Resizes feature levels to the strides at which the head works, bilinearly.

    Of P2 to P6 the first is halved and the last brought to P5's size.

    Args:
        features: L x [B, C, H_l, W_l].
        strides: L strides.
        padded_size: (height, width) of the network's input.
    """
    height, width = padded_size
    return [
        resize_bilinear(feature, (height // stride, width // stride))
        for feature, stride in zip(features, strides)
    ]
