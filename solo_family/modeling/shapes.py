"""The strides and channels of a backbone's features, which detectron2 declares as optional."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from detectron2.layers import ShapeSpec

from ..errors import ConfigError


def stride_of(shape: ShapeSpec) -> int:
    """Return a feature's stride, in pixels of the image."""
    assert shape.stride is not None
    return shape.stride


def channels_of(shape: ShapeSpec) -> int:
    """Return a feature's number of channels."""
    assert shape.channels is not None
    return shape.channels


def check_features(key: str, names: Sequence[str], shapes: Mapping[str, ShapeSpec]) -> None:
    """Refuse names of features that the backbone does not provide.

    Raises:
        ConfigError: names them, and the features that it provides.
    """
    unknown = [name for name in names if name not in shapes]
    if unknown:
        raise ConfigError(
            f"{key} has {', '.join(unknown)}, which the backbone does not provide. It provides "
            f"{', '.join(shapes)}. Name some of these."
        )


def check_doubling(
    key: str, names: Sequence[str], shapes: Mapping[str, ShapeSpec], most: int | None = None
) -> None:
    """Refuse features that the backbone does not provide, or whose strides don't double.

    Args:
        key: the key that names them.
        names: their names.
        shapes: those of the backbone's features.
        most: what inputs are padded to multiples of, if no stride can be greater.

    Raises:
        ConfigError: names the key, the features and what is needed.
    """
    check_features(key, names, shapes)
    strides = [shapes[name].stride or 0 for name in names]
    if not names or any(2 * fine != coarse for fine, coarse in pairwise(strides)):
        raise ConfigError(
            f"{key} is {list(names)}, of strides {strides}: name the finest first, each with twice "
            "the stride of the one before."
        )
    if most is not None and strides[-1] > most:
        raise ConfigError(
            f"{key} has {names[-1]} of stride {strides[-1]}, but inputs are padded to multiples of "
            f"{most}, so that it is not half of the feature before it. Leave it out."
        )
