"""Masks with `iscrowd` 1: crowds, or what a tool writes for any mask."""

from collections.abc import Sequence
from typing import Any

# Read crowds as objects: `coco_json:ANNOTATIONS.json:IMAGE_DIR?crowd=objects`.
OBJECTS = "objects"
_MANY = 0.05


def are_of_a_tool(annotations: Sequence[dict[str, Any]]) -> bool:
    """Tell whether crowds are probably objects: all masks are, or most of those that are RLE.

    COCO's own crowds are all of its RLE, but no more than a hundredth of its annotations.

    Args:
        annotations: with `iscrowd` and `segmentation`, of COCO's parts or detectron2's dicts.
    """
    crowds = [a for a in annotations if a.get("iscrowd", 0)]
    if not crowds or len(crowds) == len(annotations):
        return bool(crowds)
    codes = [a for a in annotations if isinstance(a.get("segmentation"), dict)]
    of_codes = sum(isinstance(a.get("segmentation"), dict) for a in crowds)
    return len(crowds) >= _MANY * len(annotations) and 2 * of_codes > len(codes)
