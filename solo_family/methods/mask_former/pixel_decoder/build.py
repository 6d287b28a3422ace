"""The pixel decoder that a configuration names."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import nn

from ....config.rules import check_features
from ....errors import ConfigError
from .interface import PixelDecoder
from .per_pixel import PerPixelFeatures


def build_pixel_decoder(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> PixelDecoder:
    """Builds `MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME`.

    That is one of detectron2's SEM_SEG_HEADS registry: a pixel decoder, with `forward_features`,
    or a per-pixel classifier, of which the features are used.

    Returns:
        The decoder; a per-pixel classifier is wrapped in `PerPixelFeatures`.

    Raises:
        ConfigError: there is no such head, it wants features that the backbone does not give, or it
            is neither of the two.
    """
    key = "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME"
    name = cfg.MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME
    registered = [registered for registered, _ in SEM_SEG_HEADS_REGISTRY]
    if name not in registered:
        raise ConfigError(f"{key} is {name!r}; registered are {', '.join(registered)}.")
    check_features(
        "MODEL.SEM_SEG_HEAD.IN_FEATURES", cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES, input_shape
    )
    decoder = SEM_SEG_HEADS_REGISTRY.get(name)(cfg, input_shape)
    if hasattr(decoder, "forward_features"):
        return decoder
    if hasattr(decoder, "layers") and isinstance(getattr(decoder, "predictor", None), nn.Conv2d):
        return PerPixelFeatures(decoder, cfg.MODEL.SEM_SEG_HEAD.MASK_DIM)
    raise ConfigError(
        f"{key} is {name!r}, which has neither `forward_features` nor `layers` before a "
        "convolution named `predictor`: its features can't be told from its classifier."
    )
