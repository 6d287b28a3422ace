"""The size of an image that a model is measured with, where no picture is given."""

from detectron2.config import CfgNode

from ..errors import ConfigError


def tested_size(cfg: CfgNode, remedy: str) -> tuple[int, int]:
    """Return the height and width of an image of 4:3 as evaluation resizes it.

    Args:
        cfg: a configuration.
        remedy: what to do where evaluation doesn't resize images.

    Raises:
        ConfigError: it doesn't, so that there is no such size.
    """
    short, longest = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    if short < 1:
        raise ConfigError(
            f"INPUT.MIN_SIZE_TEST is {short}, which leaves images as large as they are. {remedy}"
        )
    return short, min(longest, short * 4 // 3)
