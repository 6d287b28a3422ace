"""Dynamic convolution, with predicted kernels (SOLOv2, arXiv 2003.10152, section 3.2.3)."""

from torch import Tensor


def dynamic_conv(kernels: Tensor, features: Tensor) -> Tensor:
    """Convolves mask features with 1x1 kernels, those of one image or of a batch.

    Args:
        kernels: [N, E] or [B, N, E].
        features: [E, H, W] or [B, E, H, W].

    Returns:
        Mask logits [N, H, W] or [B, N, H, W].
    """
    # A 1x1 convolution is a matrix product; no bias, no norm.
    return (kernels @ features.flatten(-2)).unflatten(-1, features.shape[-2:])
