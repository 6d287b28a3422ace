"""Dynamic convolution, with predicted kernels (SOLOv2, arXiv 2003.10152, section 3.2.3)."""

from torch import Tensor


def dynamic_conv(kernels: Tensor, features: Tensor) -> Tensor:
    """Convolves one image's mask features with 1x1 kernels.

    Args:
        kernels: [N, E].
        features: [E, H, W].

    Returns:
        Mask logits [N, H, W].
    """
    # A 1x1 convolution is a matrix product; no bias, no norm.
    return (kernels @ features.flatten(1)).unflatten(1, features.shape[1:])
