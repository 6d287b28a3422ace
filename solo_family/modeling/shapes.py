"""The strides and channels of a backbone's features, which detectron2 declares as optional."""

from detectron2.layers import ShapeSpec


def stride_of(shape: ShapeSpec) -> int:
    """Return a feature's stride, in pixels of the image."""
    assert shape.stride is not None
    return shape.stride


def channels_of(shape: ShapeSpec) -> int:
    """Return a feature's number of channels."""
    assert shape.channels is not None
    return shape.channels
