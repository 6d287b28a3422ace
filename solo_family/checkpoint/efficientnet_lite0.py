"""EfficientNet-Lite0's part of `efficientnet_lite`, under the names that scripts of users have."""

from .efficientnet_lite import package_of, to_timm_names, write_timm_weights

PACKAGE = package_of("tf_efficientnet_lite0")

__all__ = ["PACKAGE", "to_timm_names", "write_timm_weights"]
