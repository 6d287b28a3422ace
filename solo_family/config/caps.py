"""How many instances of an image a model returns: one key for all methods, and other limits."""

from collections.abc import Iterable

from detectron2.config import CfgNode

from ..registry import METHODS, resolve
from .rules import get_key

_CAP = "TEST.DETECTIONS_PER_IMAGE"


def instances_per_image(cfg: CfgNode, key: str) -> int:
    """Return the greatest number of instances of an image.

    Args:
        cfg: the configuration.
        key: of a method's own limit, for instance "MODEL.SOLOV2.MAX_PER_IMG"; 0 there follows
            `TEST.DETECTIONS_PER_IMAGE`.
    """
    return get_key(cfg, key) or cfg.TEST.DETECTIONS_PER_IMAGE


def cap(cfg: CfgNode, key: str) -> dict[str, int]:
    """Return the same as a limit, see `instance_limits`, by the key that it is set with."""
    return {key if get_key(cfg, key) else _CAP: instances_per_image(cfg, key)}


def instance_limits(cfg: CfgNode) -> dict[str, int]:
    """Return what limits the instances of an image that the model can return, by config key.

    It is what the method's entry names as `limits`; where it names nothing, and for models of other
    code, `TEST.DETECTIONS_PER_IMAGE`.

    Returns:
        The greatest number of instances that each key allows; none for a model without instances.
    """
    method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
    if method is None or method.limits is None:
        return {_CAP: cfg.TEST.DETECTIONS_PER_IMAGE}
    return resolve(method.limits)(cfg)


def most_instances(cfg: CfgNode) -> int | None:
    """Return the greatest number of instances of an image; None where there are none."""
    return min(instance_limits(cfg).values(), default=None)


def too_many_objects(cfg: CfgNode, images: Iterable[tuple[str, int]]) -> str:
    """Return a warning of images with more objects than the model can return, or "".

    There is none where images are cut into tiles, of which each has the limits for itself.

    Args:
        cfg: the configuration.
        images: of each image its name and the number of its objects.
    """
    limits = instance_limits(cfg)
    most = None if cfg.TEST.TILE.SIZE else min(limits.values(), default=None)
    beyond = [] if most is None else [image for image in images if image[1] > most]
    if not beyond:
        return ""
    name, count = max(beyond, key=lambda image: image[1])
    low = ", ".join(f"{key} ({limit})" for key, limit in limits.items() if limit < count)
    others = f" {len(beyond) - 1} other images have more than {most}, too." * (len(beyond) > 1)
    return (
        f"{name} has {count} objects, of which this model can return {most} at most: the others "
        f"are missed whatever it learns.{others} Raise to {count} or more: {low}; or cut such "
        "images into tiles."
    )
