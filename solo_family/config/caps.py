"""How many instances of an image a model returns: one key for all methods."""

from detectron2.config import CfgNode

from .rules import get_key


def instances_per_image(cfg: CfgNode, key: str) -> int:
    """Return the greatest number of instances of an image.

    Args:
        cfg: the configuration.
        key: of a method's own limit, for instance "MODEL.SOLOV2.MAX_PER_IMG"; 0 there follows
            `TEST.DETECTIONS_PER_IMAGE`.
    """
    return get_key(cfg, key) or cfg.TEST.DETECTIONS_PER_IMAGE
